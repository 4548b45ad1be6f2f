//! Output in the forms of OpenZFS 2.1 to 2.3, written from the documented columns.

use super::*;

const LIST: &str = "zones\tfilesystem\t9663676416\t412316860416\t98304\t0\t-\tyes\t/zones\tlz4\t131072\t1772360551\t-\n\
zones/0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10\tfilesystem\t419430400\t412316860416\t419332096\t0\t-\tno\t/zones/0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10\tlz4\t131072\t1772360600\ttrue\n\
zones/6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11\tfilesystem\t734003200\t10003415040\t1153335296\t10737418240\tzones/0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10@final\tyes\t/zones/6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11\toff\t131072\t1772361000\t-\n\
zones/swap\tvolume\t4429185024\t416745947136\t57344\t-\t-\t-\t-\tzle\t-\t1772360552\t-\n\
zones/var\tfilesystem\t104857600\t412316860416\t104857600\t0\t-\tyes\tlegacy\tlz4\t131072\t1772360553\t-\n";

#[test]
fn datasets_of_all_kinds_are_read() {
    let all = parse_datasets(LIST).unwrap();
    assert_eq!(all.len(), 5);
    assert_eq!((all[0].used, all[0].available, all[0].quota), (9_663_676_416, 412_316_860_416, None));
    assert!(all[1].imgadm_ignore && !all[1].mounted);
    let instance = &all[2];
    assert_eq!(instance.quota, Some(10 << 30));
    assert_eq!(instance.origin.as_ref().unwrap().name(), "final");
    assert_eq!(instance.mountpoint.as_deref(), Some("/zones/6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11"));
    assert_eq!((all[3].kind, all[3].quota, all[3].recordsize, all[3].mounted), (DatasetKind::Volume, None, None, false));
    assert_eq!(all[4].mountpoint, None);
    assert!(parse_datasets("").unwrap().is_empty());
}

#[test]
fn rows_that_are_cut_too_long_or_not_numbers_are_errors() {
    let first = LIST.lines().next().unwrap();
    for bad in [
        first.rsplit_once('\t').unwrap().0.to_owned(),
        format!("{first}\tx"),
        first.replacen("9663676416", "9.00G", 1),
        first.replacen("filesystem", "bookmark", 1),
        "no datasets available".to_owned(),
    ] {
        let error = parse_datasets(&bad).unwrap_err().to_string();
        assert!(error.contains("zfs list"), "{error}");
    }
}

#[test]
fn snapshots_are_read() {
    let text = "zones/a@final\t0\t419332096\t1772360600\t0\t10287463021938470911\nzones/b@install\t12288\t1153335296\t1772361001\t1\t77\n";
    let all = parse_snapshots(text).unwrap();
    assert_eq!((all[0].name.name(), all[0].guid), ("final", 10_287_463_021_938_470_911));
    assert_eq!((all[1].holds, all[1].used, all[1].referenced), (1, 12_288, 1_153_335_296));
}

#[test]
fn pools_are_read_even_faulted_ones() {
    let text = "zones\t429496729600\t9663676416\t419833053184\tONLINE\t1234567890123456789\ndead\t-\t-\t-\tFAULTED\t42\n";
    let all = parse_pools(text).unwrap();
    assert_eq!((all[0].size, all[0].health.as_str()), (429_496_729_600, "ONLINE"));
    assert_eq!((all[1].size, all[1].health.as_str()), (0, "FAULTED"));
}

const HEALTHY: &str = "  pool: zones
 state: ONLINE
  scan: scrub repaired 0B in 00:00:01 with 0 errors on Sun Nov 22 09:24:02 2026
config:

	NAME        STATE     READ WRITE CKSUM
	zones       ONLINE       0     0     0
	  vdb       ONLINE       0     0     0

errors: No known data errors
";

const DEGRADED: &str = "  pool: zones
 state: DEGRADED
status: One or more devices could not be used because the label is missing or
	invalid.  Sufficient replicas exist for the pool to continue
	functioning in a degraded state.
action: Replace the device using 'zpool replace'.
   see: https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-4J
  scan: resilver in progress since Sun Nov 22 09:30:11 2026
	1.21G scanned at 124M/s, 621M issued at 62.1M/s, 9.00G total
	0B resilvered, 6.74% done, 00:02:18 to go
config:

	NAME                     STATE     READ WRITE CKSUM
	zones                    DEGRADED     0     0     0
	  mirror-0               DEGRADED     0     0     0
	    vdb                  ONLINE       0     0     0
	    9893459323432423     UNAVAIL      0     0     0  was /dev/vdc1

errors: No known data errors
";

#[test]
fn the_status_of_a_pool_is_read_with_its_continuation_lines() {
    let health = parse_pool_status(HEALTHY).unwrap();
    assert_eq!((health.state.as_str(), health.errors.as_deref()), ("ONLINE", Some("No known data errors")));
    assert_eq!(health.status, None);
    let health = parse_pool_status(DEGRADED).unwrap();
    assert_eq!(health.state, "DEGRADED");
    assert!(health.status.unwrap().ends_with("functioning in a degraded state."));
    assert!(health.scan.unwrap().ends_with("6.74% done, 00:02:18 to go"));
    assert_eq!(health.action.as_deref(), Some("Replace the device using 'zpool replace'."));
    assert!(parse_pool_status("no pools available\n").is_err());
}

/// Recorded on a booted compute node: OpenZFS 2.3.9, one image, one instance.
const RECORDED_LIST: &str = "zones\tfilesystem\t57798656\t24386605056\t114688\t0\t-\tyes\t/zones\tlz4\t131072\t1795393433\t-\n\
zones/35cddf34-f014-4f3e-9fe4-5cac7e52f3f6\tfilesystem\t90112\t1073651712\t1609728\t1073741824\tzones/b5b0c0de-7e57-4bb0-8000-000000000001@final\tyes\t/zones/35cddf34-f014-4f3e-9fe4-5cac7e52f3f6\tlz4\t131072\t1795394670\t-\n\
zones/b5b0c0de-7e57-4bb0-8000-000000000001\tfilesystem\t1585152\t24386605056\t1585152\t0\t-\tno\t/zones/b5b0c0de-7e57-4bb0-8000-000000000001\tlz4\t131072\t1795394396\t-\n\
zones/config\tfilesystem\t98304\t24386605056\t98304\t0\t-\tyes\t/zones/config\toff\t131072\t1795393434\t-\n\
zones/cores\tfilesystem\t196608\t24386605056\t98304\t0\t-\tno\tnone\tlz4\t131072\t1795393434\t-\n";
const RECORDED_SNAPSHOTS: &str = "zones/35cddf34-f014-4f3e-9fe4-5cac7e52f3f6@install\t0\t1585152\t1795394670\t0\t5527522228111009132\n\
zones/b5b0c0de-7e57-4bb0-8000-000000000001@final\t0\t1585152\t1795394398\t0\t9982249214136982856\n";
const RECORDED_POOLS: &str = "zones\t25232932864\t57810944\t25175121920\tONLINE\t13140638512365434337\n";
const RECORDED_STATUS: &str = "  pool: zones\n state: ONLINE\nconfig:\n\n\tNAME            STATE     READ WRITE CKSUM\n\
\tzones           ONLINE       0     0     0\n\t  virtio-zones  ONLINE       0     0     0\n\nerrors: No known data errors\n";

#[test]
fn a_compute_nodes_own_output_is_read() {
    let all = parse_datasets(RECORDED_LIST).unwrap();
    assert_eq!((all.len(), all[1].quota, all[1].used, all[1].creation), (5, Some(1 << 30), 90_112, 1_795_394_670));
    assert_eq!(all[1].origin.as_ref().unwrap().to_string(), "zones/b5b0c0de-7e57-4bb0-8000-000000000001@final");
    assert_eq!((all[2].mounted, all[2].quota, all[4].mountpoint.as_deref()), (false, None, None));
    let snapshots = parse_snapshots(RECORDED_SNAPSHOTS).unwrap();
    assert_eq!(snapshots.iter().map(|one| one.name.name()).collect::<Vec<_>>(), ["install", "final"]);
    let pools = parse_pools(RECORDED_POOLS).unwrap();
    assert_eq!((pools[0].size, pools[0].health.as_str()), (25_232_932_864, "ONLINE"));
    let health = parse_pool_status(RECORDED_STATUS).unwrap();
    assert_eq!((health.state.as_str(), health.errors.as_deref()), ("ONLINE", Some("No known data errors")));
}
