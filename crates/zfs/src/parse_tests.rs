//! Output in the forms of OpenZFS 2.1 to 2.3, written from the documented columns; a compute node's own output is the next proof.

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
