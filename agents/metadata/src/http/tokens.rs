//! Tokens, as version 2 of EC2's service has them: who has one made a request of his own choice to this address.

use std::time::Duration;

use tokio::time::Instant;

/// Tokens of one guest that are good at once; the oldest goes first.
const MOST: usize = 64;
/// Longest time that one may be good for, in seconds.
pub(crate) const LONGEST: u32 = 21_600;

/// The tokens of one guest. They end with the guest's boot, and with the service.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<(String, Instant)>);

impl Tokens {
    /// A new one.
    pub(crate) fn issue(&mut self, seconds: u32) -> String {
        let now = Instant::now();
        self.0.retain(|(_, until)| *until > now);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        let token = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        self.0.push((token.clone(), now + Duration::from_secs(u64::from(seconds))));
        token
    }

    /// Whether it is one that is still good.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let now = Instant::now();
        self.0.iter().any(|(known, until)| *until > now && known == token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_its_time_and_there_are_never_many() {
        let mut tokens = Tokens::default();
        let (short, long) = (tokens.issue(1), tokens.issue(LONGEST));
        assert!(tokens.knows(&short) && tokens.knows(&long) && short != long && !tokens.knows(""));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!tokens.knows(&short) && tokens.knows(&long));
        for _ in 0..MOST {
            tokens.issue(10);
        }
        assert!(!tokens.knows(&long) && tokens.0.len() == MOST);
    }
}
