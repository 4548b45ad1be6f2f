use serde_json::{Value, json};
use triton_types::JsonMap;

use crate::{Context, Filter, ListOptions, agent_lookup, list, lookup, select_fields, testing::*, unique};

const OTHER: &str = "1a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";

fn vms() -> Vec<JsonMap> {
    let web = json!({"uuid": UUID, "brand": "lx", "alias": "Web0", "state": "running", "max_physical_memory": 1024, "autoboot": true,
        "tags": {"role": "db", "a.b": 1}, "resolvers": ["8.8.8.8"], "cpu_cap": 0,
        "nics": [{"mac": "01:02:03:04:05:06", "ip": "10.0.0.5", "allow_dhcp_spoofing": true}, {"mac": "02:02:03:04:05:06", "ip": "10.0.0.6"}]});
    let bare = json!({"uuid": OTHER, "brand": "lx", "state": "stopped", "max_physical_memory": 256, "autoboot": false, "nics": [],
        "do_not_inventory": true});
    [web, bare].map(object).to_vec()
}

fn found(filters: &[&str]) -> Vec<String> {
    let filters: Vec<Filter> = filters.iter().map(|text| Filter::parse(text, Context::Lookup).unwrap()).collect();
    lookup(&vms(), &filters).iter().map(|vm| vm["uuid"].as_str().unwrap().to_owned()).collect()
}

fn table(options: &ListOptions) -> String {
    let vms = vms();
    list(&vms.iter().collect::<Vec<_>>(), options).unwrap()
}

fn options(columns: &str) -> ListOptions {
    ListOptions { columns: Some(columns.to_owned()), ..ListOptions::default() }
}

/// instances cases 53, 54
#[test]
fn filters_compare_text_forms() {
    assert_eq!(found(&["alias=~^WEB"]), [UUID]);
    assert_eq!(found(&["alias=WEB0"]), [] as [&str; 0], "only patterns ignore the case");
    assert_eq!(found(&["nics.*.mac=1:2:3:4:5:6"]), [UUID]);
    assert_eq!(found(&["nics.1.mac=1:2:3:4:5:6"]), [] as [&str; 0]);
    assert_eq!(found(&["nics.*.ip=10.0.0.6"]), [UUID]);
    assert_eq!(found(&["nics.*.dhcp_server=true"]), [UUID]);
    assert_eq!(found(&["tags.role=db", "state=running"]), [UUID]);
    assert_eq!(found(&["tags.a.b=1"]), [UUID]);
    assert_eq!(found(&["ram=256"]), [OTHER]);
    assert_eq!(found(&["type=LX"]), [UUID, OTHER]);
    assert_eq!(found(&["alias="]), [OTHER]);
    assert_eq!(found(&["alias=~."]), [UUID]);
    assert_eq!(found(&[]).len(), 2);
}

/// instances case 54
#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    let error = |text: &str, context| Filter::parse(text, context).unwrap_err().to_string();
    assert_eq!(error("bogus=1", Context::Lookup), "Invalid lookup key: \"bogus\"");
    assert_eq!(error("bogus=1", Context::List), "Invalid filter key: \"bogus\"");
    for key in ["nics.x.ip", "nics.0.bogus", "nics", "tags", "tags.", "resolvers.x", "customer_metadata", "nics.+1.ip"] {
        assert_eq!(error(&format!("{key}=1"), Context::Lookup), format!("Invalid lookup key: \"{key}\""));
    }
    assert!(error("alias", Context::List).contains("alias"));
    assert_eq!(error("alias=~(", Context::List), "Invalid regular expression for \"alias\": unclosed group");
    assert!(error("alias=~(a{1000}){1000}", Context::List).contains("size limit"));
}

/// instances case 52
#[test]
fn a_unique_lookup_has_one_result() {
    let vms = vms();
    let all: Vec<&JsonMap> = vms.iter().collect();
    assert_eq!(unique(&all).unwrap_err().to_string(), "Requested unique lookup but found 2 results.");
    assert_eq!(unique(&[]).unwrap_err().to_string(), "Requested unique lookup but found 0 results.");
    assert_eq!(unique(&all[..1]).unwrap()["uuid"], json!(UUID));
}

/// instances case 53
#[test]
fn a_lookup_can_be_reduced_to_fields() {
    let vms = vms();
    let all: Vec<&JsonMap> = vms.iter().collect();
    let picked = select_fields(&all, &["uuid", "alias", "tags.role", "nics"]).unwrap();
    assert_eq!(Value::Object(picked[1].clone()), json!({"uuid": OTHER, "nics": []}));
    assert_eq!(picked[0].keys().collect::<Vec<_>>(), ["uuid", "alias", "tags.role", "nics"]);
    assert_eq!(select_fields(&all, &["bogus"]).unwrap_err().to_string(), "invalid order field: bogus");
    assert_eq!(select_fields(&all, &["nics.*.ip"]).unwrap_err().to_string(), "Invalid order key: \"nics.*.ip\"");
    assert!(select_fields(&all, &["add_nics"]).is_err());
}

/// instances case 57
#[test]
fn agents_do_not_see_what_is_not_inventoried() {
    let vms = vms();
    assert_eq!(agent_lookup(&vms, &[], None, false).len(), 1);
    let picked = agent_lookup(&vms, &[], Some(&["uuid", "alias"]), true);
    assert_eq!(Value::Object(picked[1].clone()), json!({"uuid": OTHER, "alias": null, "do_not_inventory": true}));
    assert_eq!(Value::Object(picked[0].clone()), json!({"uuid": UUID, "alias": "Web0"}));
}

/// instances cases 17, 55
#[test]
fn the_default_table_has_fixed_columns_in_order_of_memory() {
    let text = table(&ListOptions::default());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "UUID                                  TYPE  RAM      STATE             ALIAS");
    assert_eq!(lines[1], format!("{OTHER}  LX    256      stopped           -"));
    assert_eq!(lines[2], format!("{UUID}  LX    1024     running           Web0"));
    assert_eq!(lines.len(), 3);
}

/// instances case 55
#[test]
fn scripts_get_colons_and_no_header() {
    let parsable = ListOptions { parsable: true, ..options("uuid,alias") };
    assert_eq!(table(&parsable), format!("{OTHER}:\n{UUID}:Web0\n"));
    assert!(table(&ListOptions { header: Some(true), ..parsable }).starts_with("UUID:ALIAS\n"));
    assert!(!table(&ListOptions { header: Some(false), ..ListOptions::default() }).contains("UUID"));
}

#[test]
fn false_and_unset_are_a_dash_and_zero_is_a_number() {
    let text = table(&ListOptions { header: Some(false), ..options("autoboot,cpu_cap,do_not_inventory,tags.role,resolvers.0,nics.1.ip") });
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["-", "-", "true", "-", "-", "-"]);
    assert_eq!(rows[1], ["true", "0", "-", "db", "8.8.8.8", "10.0.0.6"]);
    let titled = table(&options("cpu_shares,max_lwps,zfs_io_priority,tags.role"));
    assert_eq!(titled.lines().next(), Some("CPU_SHARE  MAX_LWP  IO_PRIORITY  TAGS.ROLE"));
}

#[test]
fn sorting_takes_directions_and_puts_unset_first() {
    let sorted = |sort: &str| table(&ListOptions { sort: Some(sort.to_owned()), parsable: true, ..options("uuid") });
    assert_eq!(sorted("-ram"), format!("{UUID}\n{OTHER}\n"));
    assert_eq!(sorted("+alias"), format!("{OTHER}\n{UUID}\n"));
    assert_eq!(sorted("type,-uuid"), format!("{UUID}\n{OTHER}\n"));
}

#[test]
fn unknown_columns_are_errors() {
    let vms: Vec<&JsonMap> = Vec::new();
    let error = |options: &ListOptions| list(&vms, options).unwrap_err().to_string();
    assert_eq!(error(&options("uuid,x")), "invalid order field: x");
    assert_eq!(error(&ListOptions { sort: Some("-x".to_owned()), ..ListOptions::default() }), "invalid sort field: x");
    assert_eq!(error(&options("nics.*.ip")), "Invalid order key: \"nics.*.ip\"");
}

#[test]
fn an_alias_cannot_forge_a_line_of_the_table() {
    let vm = object(json!({"uuid": UUID, "alias": "a\nb\u{1b}[2J"}));
    let text = list(&[&vm], &ListOptions { parsable: true, ..options("alias") }).unwrap();
    assert_eq!(text, "a?b?[2J\n");
}
