//! Many instances at once, through everything that an operator does to one.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{super::bed::Bed, vm};

/// How many.
const COUNT: u8 = 50;

/// Where the node keeps what each of them said.
const SAID: &str = "/run/many";

/// The longest time for all of them, under emulation.
const LIMIT: Duration = Duration::from_secs(1800);

/// What instances leave behind if something forgets them.
const TRACES: &str = "zfs list -H -o name -t all -r zones | grep -v testbed; ip -o link | cut -d: -f2 | cut -d@ -f1 | sort; \
     ls /sys/fs/cgroup/triton.slice 2>/dev/null | grep triton-instance; ls /var/triton/machines /zones /var/zonecontrol 2>/dev/null; \
     nft -j list ruleset | jq -S '[.nftables[] | .set? // .map? | select(.) | {table, name, elem}]'; grep -c zones/ /proc/mounts";

/// Created, changed, snapshotted, rolled back, rebooted and deleted, all at the same time: no error, and nothing is left.
pub fn at_once(bed: &mut Bed) -> Result<()> {
    vm::with_image(bed)?;
    let image = vm::image(bed)?;
    // The bridges of the NIC tags and the tables come with the first guest, and stay.
    let first = vm::payload(&image, 9, true);
    bed.run(&format!("vmadm create <<'PAYLOAD' 2>/dev/null && vmadm list -H -o uuid | xargs -n 1 vmadm delete\n{first}\nPAYLOAD"))?;
    let before = bed.run(TRACES)?;
    let mut script = format!("mkdir -p {SAID}\n");
    for host in 0..COUNT {
        let payload = vm::payload(&image, 10 + host, true);
        script.push_str(&format!("one {host} <<'PAYLOAD' &\n{payload}\nPAYLOAD\n"));
    }
    let one = format!(
        "one() {{ (set -e; \
           uuid=$(vmadm create 2>&1 | tee {SAID}/$1.created | sed -n 's/^Successfully created VM //p'); [ -n \"$uuid\" ]; \
           vmadm update $uuid max_physical_memory=96 alias=changed$1; \
           vmadm create-snapshot $uuid before; \
           vmadm update $uuid cpu_cap=50; \
           vmadm rollback-snapshot $uuid before; \
           vmadm reboot $uuid; \
           vmadm get $uuid | jq -e '.state == \"running\" and .max_physical_memory == 96 and .alias == \"changed'$1'\"'; \
           vmadm delete $uuid; touch {SAID}/$1.done) >{SAID}/$1.log 2>&1; }}\n"
    );
    bed.run(&format!("mkdir -p {SAID}; cat >{SAID}/all.sh <<'SCRIPT'\n{one}{script}wait\ntouch {SAID}/over\nSCRIPT"))?;
    bed.run(&format!("systemd-run -q --unit many -p TasksMax=infinity bash {SAID}/all.sh"))?;
    bed.until("all of them are through", &format!("ls {SAID}/*.done | wc -l; [ -e {SAID}/over ]"), LIMIT)?;
    let failed = bed.run(&format!("cd {SAID}; for i in $(seq 0 {}); do [ -e $i.done ] || tail -n 3 $i.created $i.log; done", COUNT - 1))?;
    ensure!(failed.trim().is_empty(), "some failed: {failed}");
    vm::sound(bed)?;
    let after = bed.run(TRACES)?;
    ensure!(after == before, "something is left; before:\n{before}\nafter:\n{after}");
    Ok(())
}
