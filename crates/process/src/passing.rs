//! Descriptors passed between processes over a socket.
#![allow(unsafe_code)]

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

/// Sends one byte, and with it a descriptor.
///
/// # Errors
/// What the kernel says; a write timeout of the socket counts.
pub fn send_descriptor(stream: &UnixStream, word: u8, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let (bytes, raw) = ([word], descriptor.map(|fd| [fd.as_raw_fd()]));
    let control: Vec<ControlMessage<'_>> = raw.iter().map(|raw| ControlMessage::ScmRights(raw)).collect();
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&bytes)], &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives what [`send_descriptor`] sent. Further descriptors are closed.
///
/// # Errors
/// What the kernel says; `UnexpectedEof` when the other side has closed; a read timeout of the socket counts.
pub fn receive_descriptor(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut byte = [0];
    let mut space = cmsg_space!([i32; 4]);
    let (count, raw) = {
        let mut parts = [IoSliceMut::new(&mut byte)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut raw = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(more) = control {
                raw.extend(more);
            }
        }
        (message.bytes, raw)
    };
    // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows them.
    let mut owned = raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let first = owned.next();
    owned.for_each(drop);
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((byte[0], first))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_word_and_the_end_is_told() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send_descriptor(&one, b'a', Some(writer.as_fd())).unwrap();
        send_descriptor(&one, b'b', None).unwrap();
        drop((one, writer));
        let (word, descriptor) = receive_descriptor(&other).unwrap();
        let mut file = File::from(descriptor.unwrap());
        file.write_all(b"hello").unwrap();
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((word, text.as_str()), (b'a', "hello"));
        assert!(matches!(receive_descriptor(&other), Ok((b'b', None))));
        assert_eq!(receive_descriptor(&other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
