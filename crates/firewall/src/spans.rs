//! Lists of addresses, subnets and ports as spans that neither overlap nor touch, which is what the kernel takes (section 12.3).

use ipnet::IpNet;
use triton_nft::{Element, Key};

/// Spans of numbers, both ends included.
pub(crate) type Spans = Vec<(u128, u128)>;

/// Sorts and joins what overlaps or touches.
pub(crate) fn join(mut spans: Spans) -> Spans {
    spans.sort_unstable();
    let mut joined: Spans = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// A network as a span.
pub(crate) fn of_net(net: &IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (u128::from(u32::from(net.network())), u128::from(u32::from(net.broadcast()))),
        IpNet::V6(net) => (u128::from(net.network()), u128::from(net.broadcast())),
    }
}

/// The elements of a set of keys of `bytes` bytes.
pub(crate) fn elements(spans: &Spans, bytes: usize) -> Vec<Element> {
    let key = |number: u128| Key::raw(&number.to_be_bytes()[16 - bytes..]);
    spans.iter().flat_map(|(first, last)| Element::span(key(*first), &key(*last))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn joined_spans_hold_the_same_numbers_and_do_not_touch(spans in proptest::collection::vec((0_u8..60, 0_u8..20), 0..12)) {
            let spans: Spans = spans.into_iter().map(|(first, more)| (u128::from(first), u128::from(first + more))).collect();
            let joined = join(spans.clone());
            let holds = |spans: &Spans, number: u128| spans.iter().any(|(first, last)| (*first..=*last).contains(&number));
            for number in 0..100 {
                prop_assert_eq!(holds(&spans, number), holds(&joined, number));
            }
            for pair in joined.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0);
            }
        }
    }

    #[test]
    fn whole_families_are_one_span_without_an_end() {
        for (net, bytes) in [("0.0.0.0/0", 4), ("::/0", 16)] {
            let spans = join(vec![of_net(&net.parse().unwrap())]);
            assert_eq!(elements(&spans, bytes).len(), 1, "{net}");
        }
        assert_eq!(elements(&vec![(80, 90), (100, 100)], 2).len(), 4);
    }
}
