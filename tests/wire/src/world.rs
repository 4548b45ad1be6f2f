//! Instances and rules to try: fixed ones, and those that a seed makes.

use std::net::IpAddr;

use serde_json::{Value, json};
use triton_fwrule::{Options, Rule};

/// The owners of the instances.
pub const OWNERS: [&str; 2] = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"];
/// Three of one node, then two of another.
pub const VMS: [&str; 5] = [
    "10000000-0000-4000-8000-000000000001",
    "10000000-0000-4000-8000-000000000002",
    "10000000-0000-4000-8000-000000000003",
    "20000000-0000-4000-8000-000000000004",
    "20000000-0000-4000-8000-000000000005",
];

/// The addresses of an instance, by its number.
pub fn addresses(number: usize) -> [IpAddr; 2] {
    [format!("10.0.{}.{}", number % 2, number + 1).parse().unwrap(), format!("fd00:{}::{}", number % 2, number + 1).parse().unwrap()]
}

/// The tags of an instance, by its number.
pub fn tags(number: usize) -> Value {
    match number {
        0 => json!({"role": "web", "blue": true}),
        1 => json!({"role": "db", "n": 1}),
        2 => json!({"role": "web"}),
        3 => json!({"role": "db", "blue": false}),
        _ => json!({"n": 2}),
    }
}

/// The owner of an instance, by its number.
pub fn owner(number: usize) -> &'static str {
    OWNERS[usize::from(number == 2 || number == 4)]
}

/// An enabled rule, of an owner or of nobody.
pub fn rule(owner: Option<&str>, text: &str) -> Rule {
    let mut object = json!({"rule": text, "enabled": true});
    match owner {
        Some(owner) => object["owner_uuid"] = owner.into(),
        None => object["global"] = true.into(),
    }
    Rule::parse(object.as_object().unwrap(), &Options::default()).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// One of these.
    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    fn target(&mut self) -> String {
        match self.roll(12) {
            0 => "any".to_owned(),
            1 | 2 => "all vms".to_owned(),
            3 => format!("ip {}", addresses(self.roll(5))[0]),
            4 => format!("ip {}", addresses(self.roll(5))[1]),
            5 => format!("subnet {}", self.pick(&["10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/8", "10.0.1.4/31", "0.0.0.0/0", "fd00:1::/64"])),
            6 | 7 => format!("vm {}", VMS[self.roll(5)]),
            8 => format!("tag {}", self.pick(&["role", "blue", "n", "none"])),
            _ => format!("tag {}", self.pick(&["role = web", "role = db", "blue = true", "n = 1", "n = 2"])),
        }
    }

    fn side(&mut self) -> String {
        let targets: Vec<String> = (0..=self.roll(3)).map(|_| self.target()).collect();
        match targets.as_slice() {
            [one] => one.clone(),
            // A wildcard stands alone.
            several => match several.iter().find(|target| *target == "any" || *target == "all vms") {
                Some(wildcard) => wildcard.clone(),
                None => format!("({})", several.join(" OR ")),
            },
        }
    }

    fn protocol(&mut self) -> String {
        let word = self.pick(&["tcp", "udp"]);
        match self.roll(9) {
            0 => format!("{word} PORT all"),
            1 | 2 => format!("{word} PORT {}", self.pick(&["22", "80", "443"])),
            3 => format!("{word} (PORT 22 AND PORT 443)"),
            4 => format!("{word} PORTS 20 - 25, 80, 443 - 500"),
            5 => "icmp TYPE all".to_owned(),
            6 => format!("icmp {}", self.pick(&["TYPE 8", "TYPE 8 CODE 0", "(TYPE 8 CODE 1 AND TYPE 13)"])),
            7 => format!("icmp6 {}", self.pick(&["TYPE all", "TYPE 128", "TYPE 128 CODE 1"])),
            _ => self.pick(&["ah", "esp"]).to_owned(),
        }
    }

    /// A rule that the language takes.
    pub fn rule(&mut self) -> Rule {
        for _ in 0..1000 {
            let (from, to) = (self.side(), self.side());
            let (action, protocol) = (self.pick(&["ALLOW", "ALLOW", "BLOCK"]), self.protocol());
            let priority = self.pick(&["", "", "", " PRIORITY 1", " PRIORITY 7"]);
            let text = format!("FROM {from} TO {to} {action} {protocol}{priority}");
            let owner = match self.roll(4) {
                0 => None,
                1 => Some(OWNERS[1]),
                _ => Some(OWNERS[0]),
            };
            let mut object = json!({"rule": text, "enabled": self.roll(10) > 0});
            match owner {
                Some(owner) => object["owner_uuid"] = owner.into(),
                None => object["global"] = true.into(),
            }
            // Some of these say nothing about instances, which the language does not take.
            if let Ok(mut rule) = Rule::parse(object.as_object().unwrap(), &Options::default()) {
                // The order of equal rules must not depend on what is not in the seed.
                rule.uuid = format!("30000000-0000-4000-8000-{:012x}", self.roll(1 << 30)).parse().unwrap();
                return rule;
            }
        }
        panic!("the language takes none of a thousand rules");
    }
}
