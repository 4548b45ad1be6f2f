//! Static routes of a running guest (column L of instances.md section 2.2).

use std::os::fd::AsFd;

use triton_link::{Links, NetNs, Route};
use triton_types::VmConfig;

use crate::network::{NetworkError, RoutePlan, block_on, routes};

/// Makes the static routes of the guest whose init is `pid` those of `new`. What the guest made itself stays, and so does the
/// default route, which belongs to the NICs.
///
/// # Errors
/// Names the route that the kernel refused; those before it are as they should be.
pub(crate) fn follow(pid: i32, old: &VmConfig, new: &VmConfig) -> Result<(), NetworkError> {
    let (gone, came) = difference(old, new);
    block_on(async {
        let namespace = NetNs::of_pid(pid)?;
        let guest = Links::open_in(namespace.as_fd())?;
        for route in &gone {
            guest.remove_route(route).await?;
        }
        for route in &came {
            guest.add_route(route).await?;
        }
        Ok(())
    })
}

/// Routes to remove, and routes to make.
fn difference(old: &VmConfig, new: &VmConfig) -> (Vec<Route>, Vec<Route>) {
    let of = |config: &VmConfig| -> Vec<Route> {
        let route = |plan: RoutePlan| Route { destination: plan.destination, gateway: plan.gateway, interface: plan.interface };
        routes(config).into_iter().filter(|plan| plan.destination.is_some()).map(route).collect()
    };
    let (old, new) = (of(old), of(new));
    // One that only got another gateway is replaced by its successor: it is never missing.
    let replaced = |route: &Route| new.iter().any(|other| other.destination == route.destination);
    let gone = old.iter().filter(|route| !replaced(route)).cloned().collect();
    (gone, new.into_iter().filter(|route| !old.contains(route)).collect())
}

#[cfg(test)]
mod tests {
    use triton_types::{InstanceUuid, Nic};

    use super::*;

    #[test]
    fn a_route_with_another_gateway_is_replaced_and_the_default_route_is_not_touched() {
        let mut old = VmConfig::bare(InstanceUuid::NIL);
        let mut nic = Nic::new("net0".to_owned(), "2:8:20:0:0:1".parse().unwrap(), "external".parse().unwrap());
        nic.ips = vec!["10.0.0.5/24".parse().unwrap()];
        nic.gateways = vec!["10.0.0.1".parse().unwrap()];
        nic.primary = true;
        old.nics.push(nic);
        let mut new = old.clone();
        for (config, all) in [
            (&mut old, ["172.16.0.0/16 10.0.0.2", "10.9.0.0/16 10.0.0.2", "10.8.0.0/16 10.0.0.2"]),
            (&mut new, ["172.16.0.0/16 10.0.0.3", "10.7.0.0/16 10.0.0.2", "10.8.0.0/16 10.0.0.2"]),
        ] {
            for route in all {
                let (to, via) = route.split_once(' ').unwrap();
                config.routes.insert(to.into(), via.into());
            }
        }
        let text = |routes: Vec<Route>| routes.iter().map(|r| r.destination.unwrap().to_string()).collect::<Vec<_>>();
        let (gone, came) = difference(&old, &new);
        assert_eq!((text(gone), text(came)), (vec!["10.9.0.0/16".to_owned()], vec!["172.16.0.0/16".to_owned(), "10.7.0.0/16".to_owned()]));
    }
}
