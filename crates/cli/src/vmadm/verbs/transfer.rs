//! `vmadm send` and `vmadm receive`.

use std::{
    fs::File,
    io::{self, IsTerminal},
    path::Path,
};

use triton_instance::Instances;
use triton_types::InstanceUuid;

use super::super::{Failure, args::Input, say};

pub(super) fn send(instances: &Instances, uuid: InstanceUuid) -> Result<(), Failure> {
    let out = io::stdout();
    if out.is_terminal() {
        return Err(Failure::Usage("Will not send to stdout when stdout is a tty.".to_owned()));
    }
    let sent = instances.send(uuid, &mut out.lock())?;
    if sent.snapshots > 0 {
        say(&format!("{} snapshots of VM {uuid} were not sent", sent.snapshots));
    }
    say(&format!("Successfully sent VM {uuid}"));
    Ok(())
}

pub(super) fn receive(instances: &Instances, source: &Input) -> Result<(), Failure> {
    let uuid = match source.file.as_deref() {
        Some(path) if path != Path::new("-") => {
            let mut file = File::open(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Failure::Failed(format!("File: {} does not exist.", path.display())),
                _ => Failure::Failed(format!("File: {} cannot be read: {error}", path.display())),
            })?;
            instances.receive(&mut file)?
        }
        _ if io::stdin().is_terminal() => {
            return Err(Failure::Usage("Will not receive from stdin when stdin is a tty.".to_owned()));
        }
        _ => instances.receive(&mut io::stdin().lock())?,
    };
    say(&format!("Successfully received VM {uuid}"));
    Ok(())
}
