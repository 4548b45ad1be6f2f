//! Why a start failed: liblxc says it in its log only (ruling 71).

/// The messages of the lines of level ERROR and worse in `log`, joined by `; `, each once, at most `limit` bytes. Control
/// characters are replaced: the text goes into errors that operators read.
///
/// A line is `lxc NAME DATE LEVEL category - file:function:line - message`.
pub fn log_errors(log: &str, limit: usize) -> String {
    let mut messages: Vec<String> = Vec::new();
    for line in log.lines() {
        let mut parts = line.splitn(3, " - ");
        let (Some(head), Some(_place), Some(message)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let severe = head.split_whitespace().any(|word| matches!(word, "ERROR" | "CRIT" | "ALERT" | "FATAL"));
        let message: String = message.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        if severe && !message.is_empty() && !messages.contains(&message) {
            messages.push(message);
        }
    }
    let mut text = messages.join("; ");
    if text.len() > limit {
        let mut end = limit.saturating_sub(3);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::log_errors;

    const LOG: &str = "\
lxc c1 20260101120000.100 INFO     start - ../src/lxc/start.c:lxc_init:900 - Container \"c1\" is ok - really
lxc c1 20260101120000.101 ERROR    start - ../src/lxc/start.c:start:2200 - No such file or directory - Failed to exec \"/sbin/init\"
lxc c1 20260101120000.102 ERROR    sync - ../src/lxc/sync.c:sync_wait:34 - An error occurred in another process (expected sequence number 7)
lxc c1 20260101120000.102 ERROR    sync - ../src/lxc/sync.c:sync_wait:34 - An error occurred in another process (expected sequence number 7)
not a line of the log
lxc c1 20260101120000.103 WARN     network - ../src/lxc/network.c:x:1 - ERROR in a message is none
";

    #[test]
    fn only_errors_are_taken_each_once_and_bounded() {
        let text = log_errors(LOG, 2048);
        assert_eq!(
            text,
            "No such file or directory - Failed to exec \"/sbin/init\"; \
             An error occurred in another process (expected sequence number 7)"
        );
        let short = log_errors(LOG, 20);
        assert_eq!((short.len(), short.as_str()), (20, "No such file or d..."));
        assert_eq!(log_errors("", 10), "");
    }
}
