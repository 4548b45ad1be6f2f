//! Whether a table is as it was.

use std::{collections::VecDeque, time::Duration};

use crate::{Change, Events, NftError};

/// So many changes of other tables are followed between two questions.
const FOLLOWED: usize = 4096;
/// Notices of more than this are not kept.
const ROOM: usize = 4 << 20;

/// Follows all changes of the rules for who remembers one table, so that it need not be read again when others were changed.
#[derive(Debug)]
pub struct Watch {
    events: Events,
    table: String,
    /// A message about the table came, of a change whose end is still to come.
    touched: bool,
    /// Generations that began, and whether their change was one of the table.
    seen: VecDeque<(u32, bool)>,
}

impl Watch {
    /// Begins to follow the changes of `table`, of whatever family, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As [`Events::open`].
    pub fn open(table: &str) -> Result<Self, NftError> {
        Ok(Self { events: Events::open_within(ROOM)?, table: table.to_owned(), touched: false, seen: VecDeque::new() })
    }

    /// Whether it is known that no change between these two generations was one of the table. `since` is not before [`Watch::open`], and does
    /// not go back from one question to the next.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn is_untouched(&mut self, since: u32, now: u32) -> Result<bool, NftError> {
        let changes = self.events.wait(Duration::ZERO)?;
        self.note(changes);
        // Generations are numbers that follow each other, and begin anew at their end.
        while self.seen.front().is_some_and(|(generation, _)| generation.wrapping_sub(since).cast_signed() <= 0) {
            self.seen.pop_front();
        }
        let changes = now.wrapping_sub(since) as usize;
        let follows = |((generation, touched), at): (&(u32, bool), u32)| !touched && *generation == since.wrapping_add(at);
        Ok(changes <= FOLLOWED && self.seen.len() >= changes && self.seen.iter().take(changes).zip(1..).all(follows))
    }

    fn note(&mut self, changes: Vec<Change>) {
        if changes.contains(&Change::Lost) {
            // Where among them the gap is, nobody knows; the change whose end comes next may have lost its beginning.
            self.seen.clear();
            self.touched = true;
            return;
        }
        for change in changes {
            match change {
                Change::Table(table) => self.touched |= table == self.table,
                Change::End { generation, .. } => {
                    if self.seen.len() == FOLLOWED {
                        self.seen.pop_front();
                    }
                    self.seen.push_back((generation, std::mem::take(&mut self.touched)));
                }
                Change::Lost => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(changes: &[Change]) -> Watch {
        // The socket is not asked for anything here.
        let mut watch = Watch::open("own").unwrap();
        watch.note(changes.to_vec());
        watch
    }

    fn table(name: &str) -> Change {
        Change::Table(name.to_owned())
    }

    fn end(generation: u32) -> Change {
        Change::End { pid: 1, generation }
    }

    #[test]
    fn kernel_only_a_row_of_changes_of_other_tables_leaves_a_table_untouched() {
        let others = [table("a"), end(8), table("b"), table("c"), end(9), end(10)];
        assert!(watch(&others).is_untouched(7, 10).unwrap() && watch(&others).is_untouched(9, 10).unwrap());
        assert!(watch(&[]).is_untouched(10, 10).unwrap(), "nothing was changed");
        assert!(!watch(&others).is_untouched(7, 11).unwrap(), "the last one was not told yet");
        assert!(!watch(&others).is_untouched(6, 10).unwrap(), "the first one was not told");
        assert!(!watch(&[end(8), end(10)]).is_untouched(7, 10).unwrap(), "one in between");
        let own = [table("a"), table("own"), end(8), table("a"), end(9)];
        assert!(!watch(&own).is_untouched(7, 9).unwrap());
        assert!(watch(&own).is_untouched(8, 9).unwrap(), "since then");
        assert!(!watch(&[end(8), table("own"), Change::Lost, end(9)]).is_untouched(8, 9).unwrap());
        let mut lost = watch(&[end(8), Change::Lost]);
        lost.note(vec![end(9), end(10)]);
        assert!(!lost.is_untouched(8, 10).unwrap() && lost.is_untouched(9, 10).unwrap());
        assert!(watch(&[end(u32::MAX), end(0), end(1)]).is_untouched(u32::MAX - 1, 1).unwrap(), "they begin anew");
    }
}
