//! The ends of guests' inits, from the kernel itself: whoever reports an instance hears of its death without waiting for its supervisor,
//! also when that one is dead.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use triton_process::PidFd;
use triton_types::{InstanceUuid, ProcessRef};

/// The inits that are followed: one descriptor each.
#[derive(Debug)]
pub(crate) struct Inits {
    epoll: Epoll,
    followed: BTreeMap<InstanceUuid, Init>,
    /// Whose each number is that the kernel gives back.
    numbers: HashMap<u64, InstanceUuid>,
    next: u64,
}

#[derive(Debug)]
struct Init {
    process: ProcessRef,
    fd: PidFd,
    number: u64,
}

impl Inits {
    /// None yet.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, followed: BTreeMap::new(), numbers: HashMap::new(), next: 0 })
    }

    /// The init of an instance is this one now, or it has none. One that has ended, or cannot be opened, is not followed: its supervisor
    /// tells of it.
    pub(crate) fn follow(&mut self, uuid: InstanceUuid, init: Option<ProcessRef>) {
        if self.followed.get(&uuid).map(|followed| followed.process) == init {
            return;
        }
        self.forget(uuid);
        let Some(process) = init else { return };
        let Some(fd) = PidFd::open(process) else { return };
        let number = self.next;
        if self.epoll.add(&fd, EpollEvent::new(EpollFlags::EPOLLIN, number)).is_ok() {
            self.next += 1;
            self.numbers.insert(number, uuid);
            self.followed.insert(uuid, Init { process, fd, number });
        }
    }

    fn forget(&mut self, uuid: InstanceUuid) {
        if let Some(Init { fd, number, .. }) = self.followed.remove(&uuid) {
            self.numbers.remove(&number);
            let _ = self.epoll.delete(&fd);
        }
    }

    /// The instances whose init has ended since this was last asked.
    pub(crate) fn ended(&mut self) -> Vec<InstanceUuid> {
        let mut ended = Vec::new();
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                // It is our own and open: nothing else is known to fail, and supervisors tell as well.
                Err(_) => return ended,
            };
            let these: Vec<InstanceUuid> = events.iter().take(count).filter_map(|event| self.numbers.get(&event.data()).copied()).collect();
            if these.is_empty() {
                return ended;
            }
            for uuid in these {
                self.forget(uuid);
                ended.push(uuid);
            }
        }
    }
}

impl AsFd for Inits {
    /// Readable when an init has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command},
        time::{Duration, Instant},
    };

    use super::*;

    fn sleeper() -> (Child, ProcessRef) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = triton_process::reference(i32::try_from(child.id()).unwrap()).unwrap();
        (child, process)
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn each_end_is_told_once_and_only_of_who_is_followed() {
        let mut inits = Inits::new().unwrap();
        let (one, other) = (InstanceUuid::random(), InstanceUuid::random());
        let ((first, first_ref), (second, second_ref), (third, third_ref)) = (sleeper(), sleeper(), sleeper());
        inits.follow(one, Some(first_ref));
        inits.follow(one, Some(first_ref));
        inits.follow(other, Some(second_ref));
        assert_eq!(inits.ended(), []);
        end(first);
        assert_eq!((inits.ended(), inits.ended()), (vec![one], vec![]));
        // Dead already: there is nothing to wait for.
        inits.follow(one, Some(first_ref));
        assert_eq!(inits.ended(), []);
        // It rebooted, and what became of its old init is nobody's business; then it stopped.
        inits.follow(other, Some(third_ref));
        end(second);
        assert_eq!(inits.ended(), []);
        inits.follow(other, None);
        end(third);
        assert_eq!(inits.ended(), []);
        assert!(inits.followed.is_empty() && inits.numbers.is_empty());
    }

    #[test]
    fn many_that_end_at_once_are_all_told() {
        let mut inits = Inits::new().unwrap();
        let children: Vec<(InstanceUuid, Child)> = (0..150)
            .map(|_| {
                let ((child, process), uuid) = (sleeper(), InstanceUuid::random());
                inits.follow(uuid, Some(process));
                (uuid, child)
            })
            .collect();
        let mut wanted: Vec<InstanceUuid> = children.iter().map(|(uuid, _)| *uuid).collect();
        children.into_iter().for_each(|(_, child)| end(child));
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut told = Vec::new();
        while told.len() < wanted.len() && Instant::now() < deadline {
            told.extend(inits.ended());
        }
        told.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(told, wanted);
    }
}
