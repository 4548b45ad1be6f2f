//! Cases 21 to 28: `command_execute`, with real processes.

use std::{os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};

use crate::support::{Bed, eventually};

async fn execute(bed: &Bed, params: Value) -> Value {
    let reply = bed.task("command_execute", params).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let result = reply.json();
    let mut keys: Vec<_> = result.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["err", "exitCode", "signal", "stderr", "stdout"]);
    result
}

fn message(result: &Value) -> &str {
    result["err"]["message"].as_str().unwrap()
}

/// cn-agent case 21
#[tokio::test]
async fn arguments_and_environment_reach_the_script() {
    let bed = Bed::start().await;
    let reply = bed.task("command_execute", json!({"script": "echo hi $1 $FOO", "args": ["a"], "env": {"FOO": "bar"}})).await;
    assert_eq!(reply.seen(), (200, r#"{"err":null,"exitCode":0,"signal":null,"stderr":"","stdout":"hi a bar\n"}"#));
}

/// cn-agent case 22
#[tokio::test]
async fn a_script_that_fails_is_a_result() {
    let bed = Bed::start().await;
    let result = execute(&bed, json!({"script": "echo out; echo err >&2; exit 7"})).await;
    assert_eq!((&result["exitCode"], &result["signal"]), (&json!(7), &Value::Null));
    assert_eq!((&result["stdout"], &result["stderr"]), (&json!("out\n"), &json!("err\n")));
    let text = message(&result);
    assert!(text.starts_with("exec \"") && text.ends_with("exited with status 7") && text.contains("/tmp/cnagent-"), "{text}");
}

/// cn-agent case 23
#[tokio::test]
async fn a_script_beyond_its_time_is_killed_with_all_its_children() {
    let bed = Bed::start().await;
    let script = "sleep 1000 & echo $!; echo $$; sleep 1000";
    let result = execute(&bed, json!({"script": script, "timeout": 500})).await;
    assert_eq!((&result["exitCode"], &result["signal"]), (&Value::Null, &json!("SIGKILL")));
    assert!(message(&result).ends_with("unexpectedly terminated by signal SIGKILL"));
    let pids: Vec<_> = result["stdout"].as_str().unwrap().lines().map(str::to_owned).collect();
    assert_eq!(pids.len(), 2, "what was written before the end is kept");
    for pid in pids {
        let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        eventually("the end of the group", || (!alive()).then_some(())).await;
    }
}

/// cn-agent case 24
#[tokio::test]
async fn a_script_killed_by_a_signal_names_it() {
    let bed = Bed::start().await;
    let result = execute(&bed, json!({"script": "kill -TERM $$"})).await;
    assert_eq!((&result["exitCode"], &result["signal"]), (&Value::Null, &json!("SIGTERM")));
    assert!(message(&result).ends_with("unexpectedly terminated by signal SIGTERM"));
}

/// cn-agent case 25
#[tokio::test]
async fn the_interpreter_line_counts_without_one_sh_runs_it_and_a_missing_one_is_enoent() {
    let bed = Bed::start().await;
    let result = execute(&bed, json!({"script": "echo $0 \"$@\"", "args": ["x y", "z"]})).await;
    let line = result["stdout"].as_str().unwrap();
    assert!(line.contains("/tmp/cnagent-") && line.ends_with(" x y z\n"), "{line}");
    let result = execute(&bed, json!({"script": "#!/bin/cat\nthis text\n"})).await;
    assert_eq!(result["stdout"], "#!/bin/cat\nthis text\n");
    let result = execute(&bed, json!({"script": ""})).await;
    assert_eq!(result["exitCode"], 0);
    let result = execute(&bed, json!({"script": "#!/no/such/interpreter\n"})).await;
    assert_eq!((&result["exitCode"], &result["signal"], &result["stdout"]), (&Value::Null, &Value::Null, &json!("")));
    let text = message(&result);
    assert!(text.contains(": spawn ") && text.ends_with(" ENOENT"), "{text}");
}

/// cn-agent case 26
#[tokio::test]
async fn output_beyond_five_mib_ends_the_script_and_the_first_part_is_kept() {
    let bed = Bed::start().await;
    for (script, stream) in [("head -c 6000000 /dev/zero | tr '\\0' x; sleep 1000", "stdout"), ("yes >&2", "stderr")] {
        let result = execute(&bed, json!({"script": script, "env": {"PATH": "/usr/bin:/bin"}})).await;
        assert_eq!(result[stream].as_str().unwrap().len(), 5_242_880);
        assert_eq!((&result["exitCode"], &result["signal"]), (&Value::Null, &Value::Null));
        assert!(message(&result).ends_with(&format!("{stream} maxBuffer exceeded")));
    }
    let result = execute(&bed, json!({"script": "head -c 5242880 /dev/zero", "env": {"PATH": "/usr/bin:/bin"}})).await;
    assert_eq!((&result["exitCode"], result["stdout"].as_str().unwrap().len()), (&json!(0), 5_242_880), "the limit itself is allowed");
}

/// cn-agent case 27
#[tokio::test]
async fn parameters_of_a_wrong_type_end_like_upstreams_worker() {
    let bed = Bed::start().await;
    let expected = r#"{"error":"Child task process command_execute did not terminate cleanly. (1)"}"#;
    for params in
        [json!({}), json!({"script": "true", "args": "a"}), json!({"script": ["true"]}), json!({"script": "true", "timeout": "5"})]
    {
        assert_eq!(bed.task("command_execute", params.clone()).await.seen(), (500, expected), "{params}");
    }
}

/// cn-agent case 28
#[tokio::test]
async fn the_environment_is_exactly_the_given_one_and_the_file_is_private_and_gone_afterwards() {
    let bed = Bed::start().await;
    // What the kernel gave the shell, before the shell adds its own.
    let script = "/bin/cat /proc/$$/environ";
    let result = execute(&bed, json!({"script": script, "env": {"ONLY": "this"}})).await;
    assert_eq!(result["stdout"], "ONLY=this\0");
    assert_eq!(execute(&bed, json!({"script": script})).await["stdout"], "");
    let script = "/usr/bin/stat -c %a $0; echo $0";
    let result = execute(&bed, json!({"script": script})).await;
    let (mode, path) = result["stdout"].as_str().unwrap().trim_end().split_once('\n').unwrap();
    assert_eq!(mode, "700");
    assert!(!Path::new(path).exists(), "{path} is left");
    assert_eq!(std::fs::read_dir(bed.layout.at("/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_script_that_reads_its_input_sees_the_end_of_it() {
    let bed = Bed::start().await;
    let result = execute(&bed, json!({"script": "/bin/cat; echo done"})).await;
    assert_eq!((&result["exitCode"], &result["stdout"]), (&json!(0), &json!("done\n")));
}

#[tokio::test]
async fn where_the_first_directory_cannot_hold_a_script_another_one_does() {
    let bed = Bed::start().await;
    std::fs::remove_dir(bed.layout.at("/tmp")).unwrap();
    std::fs::write(bed.layout.at("/tmp"), "in the way").unwrap();
    let result = execute(&bed, json!({"script": "echo $0"})).await;
    assert!(result["stdout"].as_str().unwrap().contains("/run/triton/scripts/cnagent-"), "{result}");
    let mode = std::fs::metadata(bed.layout.at("/run/triton/scripts")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn many_scripts_at_once_all_run() {
    let bed = Bed::start().await;
    let scripts: Vec<_> = (0..40).map(|n| bed.later("command_execute", json!({"script": format!("echo {n}")}))).collect();
    for (n, script) in scripts.into_iter().enumerate() {
        let result = script.await.unwrap().json();
        assert_eq!((&result["err"], &result["stdout"]), (&Value::Null, &json!(format!("{n}\n"))));
    }
}

#[tokio::test]
async fn neither_script_nor_output_is_kept_in_history_or_logs() {
    let bed = Bed::start().await;
    execute(&bed, json!({"script": "echo hunter2", "env": {"PW": "hunter2"}, "args": ["hunter2"]})).await;
    assert!(!Value::from(bed.history().await).to_string().contains("hunter2"));
    let directory = bed.layout.at("/var/log/cn-agent/logs");
    let text = eventually("the end of the task's log", || {
        let mut logs = std::fs::read_dir(&directory).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        logs.find(|text| text.contains("\"finish\""))
    })
    .await;
    assert!(!text.contains("hunter2"), "{text}");
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&record["name"], &record["v"], &record["task"]), (&json!("cn-agent"), &json!(0), &json!("command_execute")));
    }
}
