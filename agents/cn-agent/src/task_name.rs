//! Every task that CNAPI may send, the queue it belongs to, and whether this version has it (cn-agent.md sections 2.6 and 3).

use std::{fmt, str::FromStr};

macro_rules! tasks {
    ($($queue:ident: { $($name:ident = $text:literal,)* })*) => {
        /// A task known to CNAPI.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum TaskName {
            $($(#[doc = concat!("`", $text, "`")] $name,)*)*
        }

        impl TaskName {
            /// All of them.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$name => $text,)*)* }
            }

            /// The queue that it was declared in.
            pub const fn queue(self) -> Queue {
                match self { $($(Self::$name => Queue::$queue,)*)* }
            }
        }

        impl FromStr for TaskName {
            type Err = UnknownTask;
            fn from_str(text: &str) -> Result<Self, UnknownTask> {
                match text { $($($text => Ok(Self::$name),)*)* _ => Err(UnknownTask) }
            }
        }
    };
}

/// A word that is no task of CNAPI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTask;

/// A group of tasks with a declared limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Creation and reprovisioning.
    MachineCreation,
    /// Import of images.
    ImageImport,
    /// Tasks about the node.
    Server,
    /// Docker.
    Docker,
    /// Docker builds, whose parameters are not recorded.
    DockerBuild,
    /// NIC tags.
    ServerNics,
    /// Agents: one at a time, since two installations corrupt each other.
    Agents,
    /// Changes of instances.
    Machine,
    /// Images of instances.
    MachineImages,
    /// Questions about images.
    ImageQuery,
    /// Questions about instances.
    MachineQuery,
    /// Changes of datasets.
    Zfs,
    /// Questions about datasets.
    ZfsQuery,
    /// For tests.
    Test,
}

impl Queue {
    /// How many of its tasks may run at once; `None` for any number.
    pub const fn limit(self) -> Option<usize> {
        match self {
            Self::Agents => Some(1),
            _ => None,
        }
    }

    /// False when parameters must not be kept, not even redacted.
    pub const fn records_params(self) -> bool {
        !matches!(self, Self::DockerBuild)
    }
}

tasks! {
    MachineCreation: { MachineCreate = "machine_create", MachineReprovision = "machine_reprovision", }
    ImageImport: { ImageEnsurePresent = "image_ensure_present", }
    Server: {
        CommandExecute = "command_execute",
        RecoveryConfig = "recovery_config",
        ServerOverprovisionRatio = "server_overprovision_ratio",
        ServerReboot = "server_reboot",
        ServerSysinfo = "server_sysinfo",
    }
    Docker: { DockerExec = "docker_exec", DockerCopy = "docker_copy", DockerStats = "docker_stats", }
    DockerBuild: { DockerBuild = "docker_build", }
    ServerNics: { ServerUpdateNics = "server_update_nics", }
    Agents: {
        AgentInstall = "agent_install",
        AgentsUninstall = "agents_uninstall",
        ShutdownCnAgentUpdate = "shutdown_cn_agent_update",
        RefreshAgents = "refresh_agents",
    }
    Machine: {
        MachineBoot = "machine_boot",
        MachineDestroy = "machine_destroy",
        MachineKill = "machine_kill",
        MachineProc = "machine_proc",
        MachineReboot = "machine_reboot",
        MachineShutdown = "machine_shutdown",
        MachineUpdate = "machine_update",
        MachineUpdateNics = "machine_update_nics",
        MachineScreenshot = "machine_screenshot",
        MachineCreateSnapshot = "machine_create_snapshot",
        MachineRollbackSnapshot = "machine_rollback_snapshot",
        MachineDeleteSnapshot = "machine_delete_snapshot",
        MachineMigrate = "machine_migrate",
        MachineMigrateReceive = "machine_migrate_receive",
    }
    MachineImages: { MachineCreateImage = "machine_create_image", }
    ImageQuery: { ImageGet = "image_get", }
    MachineQuery: { MachineLoad = "machine_load", MachineInfo = "machine_info", }
    Zfs: {
        ZfsCreateDataset = "zfs_create_dataset",
        ZfsDestroyDataset = "zfs_destroy_dataset",
        ZfsRenameDataset = "zfs_rename_dataset",
        ZfsSnapshotDataset = "zfs_snapshot_dataset",
        ZfsRollbackDataset = "zfs_rollback_dataset",
        ZfsCloneDataset = "zfs_clone_dataset",
        ZfsSetProperties = "zfs_set_properties",
    }
    ZfsQuery: {
        ZfsGetProperties = "zfs_get_properties",
        ZfsListDatasets = "zfs_list_datasets",
        ZfsListSnapshots = "zfs_list_snapshots",
        ZfsListPools = "zfs_list_pools",
    }
    Test: { Sleep = "sleep", Nop = "nop", TestSubtask = "test_subtask", }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl TaskName {
    /// True if it changes one instance and must wait for another change of that instance (section 2.6).
    ///
    /// `machine_kill` does not wait: it changes no file, and it is what an operator uses when a shutdown under way does not end.
    pub const fn changes_one_instance(self) -> bool {
        matches!(
            self,
            Self::MachineCreate
                | Self::MachineReprovision
                | Self::MachineBoot
                | Self::MachineDestroy
                | Self::MachineReboot
                | Self::MachineShutdown
                | Self::MachineUpdate
                | Self::MachineCreateSnapshot
                | Self::MachineRollbackSnapshot
                | Self::MachineDeleteSnapshot
                | Self::MachineCreateImage
        )
    }

    /// True if sysinfo may be different afterwards.
    pub const fn alters_sysinfo(self) -> bool {
        matches!(
            self,
            Self::CommandExecute | Self::ServerUpdateNics | Self::ServerOverprovisionRatio | Self::AgentInstall | Self::AgentsUninstall
        )
    }

    /// What is answered where there is no handler: the prefix that CNAPI and its clients know for the task, and that it is not there.
    pub fn unavailable(self) -> String {
        match self {
            Self::RecoveryConfig => "Recovery Configuration error: encrypted pools are not available on Linux compute nodes".to_owned(),
            Self::MachineScreenshot => "vmadm.sysrq error: screenshots need an instance of brand kvm".to_owned(),
            _ => format!("{self} is not available on Linux compute nodes in this version"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_others_are_not() {
        for name in TaskName::ALL {
            assert_eq!(name.as_str().parse(), Ok(*name));
        }
        assert_eq!(TaskName::ALL.len(), 49);
        assert_eq!("wat".parse::<TaskName>(), Err(UnknownTask));
        assert_eq!("Nop".parse::<TaskName>(), Err(UnknownTask));
    }

    #[test]
    fn only_agents_run_one_at_a_time_and_questions_never_wait_for_changes() {
        for name in TaskName::ALL {
            assert_eq!(name.queue().limit(), (name.queue() == Queue::Agents).then_some(1), "{name}");
        }
        for name in [TaskName::MachineLoad, TaskName::MachineInfo, TaskName::MachineProc, TaskName::ServerSysinfo, TaskName::MachineKill] {
            assert!(!name.changes_one_instance(), "{name}");
        }
    }
}
