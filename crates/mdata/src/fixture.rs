//! The VM of metadata.md section 12.

use serde_json::{Value, json};
use triton_types::JsonMap;

pub(crate) fn vm() -> JsonMap {
    let vm = json!({
        "uuid": "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1", "alias": "web0", "brand": "lx", "max_physical_memory": 1024, "autoboot": true,
        "hvm": false, "dns_domain": "local", "resolvers": ["8.8.8.8", "8.8.4.4"], "pid": 77, "zonepath": "/zones/x", "tmpfs": 64,
        "tags": {"role": "db", "n": 3, "b": false, "dotted.key": "dk"},
        "nics": [{"interface": "net0", "mac": "90:b8:d0:01:02:03", "ip": "10.0.0.5", "ips": ["10.0.0.5/24"], "gateway": "10.0.0.1",
            "primary": true}],
        "routes": {"10.1.0.0/16": "10.0.0.9", "10.2.0.0/16": "nics[0]", "10.4.0.0/16": "nics[7]", "10.3.0.0/16": "macs[90:b8:d0:1:2:3]",
            "10.5.0.0/16": "macs[zz]"},
        "internal_metadata_namespaces": ["baz", "foo"],
        "customer_metadata": {"bar:foo": "customer", "foo:bar": "customer", "user-script": "#!/bin/sh\necho hi\n", "dots": "a\n.b\n..c\n.",
            "num": 5, "bool": false, "empty": "", "u8": "héllo ☃", "root_pw": "cust-pw", "sp key": "spv", "null": null},
        "internal_metadata": {"bar:foo": "internal", "foo:bar": "internal", "hidden": "h", "root_pw": "int-pw",
            "operator-script": "#!/bin/sh\ntrue\n", "sdc:volumes": "[]", "docker:id": "abc"},
    });
    match vm {
        Value::Object(map) => map,
        _ => JsonMap::new(),
    }
}
