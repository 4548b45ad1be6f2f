//! A token bucket that makes its user wait, never fail.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Longest wait. Whoever owes more is forgiven the rest: clients wait 45 s (metadata.md section 2.6), and a guest that did much at once, or
/// whose host is slow, is not to be without answers for minutes afterwards.
const LONGEST: Duration = Duration::from_secs(30);

/// Admits `rate` uses per second, and `burst` at once after a pause.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    burst: f64,
    /// Tokens, and when they were counted. Below zero: promised to those who wait.
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub(crate) fn new((rate, burst): (f64, f64)) -> Self {
        let (rate, burst) = (rate.max(0.01), burst.max(1.0));
        Self { rate, burst, state: Mutex::new((burst, Instant::now())) }
    }

    /// Takes a token, after the time that it is not there yet.
    pub(crate) async fn take(&self) {
        self.spend(1.0).await;
    }

    /// Takes so many tokens, after the time that they are not there yet.
    pub(crate) async fn spend(&self, tokens: f64) {
        let wait = self.claim(Instant::now(), tokens);
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
    }

    fn claim(&self, now: Instant, wanted: f64) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, then) = *state;
        let tokens = (tokens + now.saturating_duration_since(then).as_secs_f64() * self.rate).min(self.burst) - wanted;
        let tokens = tokens.max(-self.rate * LONGEST.as_secs_f64());
        *state = (tokens, now);
        if tokens >= 0.0 { Duration::ZERO } else { Duration::try_from_secs_f64(-tokens / self.rate).unwrap_or(LONGEST) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_more_comes_at_the_rate() {
        let bucket = Bucket::new((10.0, 5.0));
        let begin = Instant::now();
        for _ in 0..5 {
            bucket.take().await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            bucket.take().await;
        }
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(1990) && took < Duration::from_millis(2300), "{took:?}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begin = Instant::now();
        for _ in 0..5 {
            bucket.take().await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO, "a long pause saves no more than the burst");
        bucket.take().await;
        assert!(begin.elapsed() >= Duration::from_millis(90));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_clients_do() {
        let bucket = std::sync::Arc::new(Bucket::new((0.02, 0.25)));
        let begin = Instant::now();
        let waiters: Vec<_> = (0..32)
            .map(|_| {
                let bucket = bucket.clone();
                tokio::spawn(async move { bucket.spend(1.0).await })
            })
            .collect();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        let took = begin.elapsed();
        assert!(took >= Duration::from_secs(29) && took < Duration::from_secs(31), "{took:?}");
        bucket.take().await;
        assert!(begin.elapsed() > took + Duration::from_secs(25), "and what is forgiven is not for nothing");
    }
}
