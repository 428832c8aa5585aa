//! Threads for one kind of work that waits for the disk or takes a processor for a while: so many and no more, and shared with
//! no other kind.

use std::io;

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// Threads of one kind; they go when they are idle. Work waits for a free one, first come, first served.
#[derive(Debug)]
pub struct Pool(Option<Runtime>);

impl Pool {
    /// A pool of `threads` threads with this name.
    pub fn new(name: &str, threads: usize) -> io::Result<Pool> {
        // Nothing but its threads is used: it needs neither timers nor sockets.
        let mut builder = Builder::new_current_thread();
        builder
            .max_blocking_threads(threads.max(1))
            .thread_name(name)
            .build()
            .map(|runtime| Pool(Some(runtime)))
    }

    /// Begins some work. A panic in it is an error of its handle alone.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.0 {
            Some(runtime) => runtime.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        }
    }

    /// The threads of the runtime around it, whose clock stands while they work.
    #[cfg(test)]
    pub fn of_the_runtime() -> Pool {
        Pool(None)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // What hangs in it is not waited for.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_is_no_other_pools_concern_and_a_panic_is_its_own() {
        let (one, other) = (Pool::new("one", 1).expect("threads"), Pool::new("other", 1).expect("threads"));
        let (go, gone) = mpsc::channel::<()>();
        let hangs = one.run(move || gone.recv().is_err());
        let waits = one.run(|| 1);
        assert_eq!(other.run(|| 2).await.expect("no panic"), 2);
        assert!(other.run(|| -> u8 { panic!("made for this test") }).await.is_err());
        assert_eq!(other.run(|| 3).await.expect("no panic"), 3);
        assert!(!waits.is_finished(), "it has one thread and no more");
        drop(go);
        assert!(hangs.await.expect("no panic"));
        assert_eq!(waits.await.expect("no panic"), 1);
    }
}
