//! The third transport, for images whose cloud-init knows only EC2 or OpenStack: http://169.254.169.254/ inside the guest's own
//! network namespace (metadata.md section 5.4). Off unless an operator chose it for an instance.
//!
//! Who asks is known by where the socket is, as with the others: it is made in the namespace and reached over its loopback alone.
//! Nothing of it is internal metadata, and nothing can be written.

mod door;
mod ec2;
mod openstack;
mod page;
mod request;
mod tokens;

pub(crate) use door::Door;

#[cfg(test)]
mod tests;
