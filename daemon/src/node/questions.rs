//! Questions to the origin that several clients ask at the same moment: one goes out, and all get its answer.

use std::{collections::HashMap, future::Future, hash::Hash};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;

/// The questions of one kind that are open.
///
/// A question lives for as long as somebody waits for its answer; whoever asks the same thing meanwhile gets that answer too.
/// Nothing is remembered: who asks a moment later asks anew.
pub(super) struct Questions<Q, A> {
    open: Mutex<HashMap<Q, WeakShared<BoxFuture<'static, A>>>>,
}

impl<Q, A> Default for Questions<Q, A> {
    fn default() -> Self {
        Self { open: Mutex::default() }
    }
}

impl<Q: Hash + Eq, A: Clone> Questions<Q, A> {
    /// The answer to `question`, for which `ask` is called unless it is open already.
    pub(super) async fn answer<F>(&self, question: Q, ask: impl FnOnce() -> F) -> A
    where
        F: Future<Output = A> + Send + 'static,
    {
        self.join(question, ask).await
    }

    fn join<F>(&self, question: Q, ask: impl FnOnce() -> F) -> Shared<BoxFuture<'static, A>>
    where
        F: Future<Output = A> + Send + 'static,
    {
        let mut open = self.open.lock();
        let known = open.get(&question).and_then(WeakShared::upgrade);
        // One that has its answer was asked before this: whoever comes now wants to know what is so now.
        if let Some(known) = known.filter(|known| known.peek().is_none()) {
            return known;
        }
        open.retain(|_, other| other.upgrade().is_some_and(|other| other.peek().is_none()));
        let asked = ask().boxed().shared();
        open.extend(asked.downgrade().map(|asked| (question, asked)));
        asked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    };

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Counts what is asked, and answers with the number of the question when it is let.
    #[derive(Clone)]
    struct Oracle {
        asked: Arc<AtomicU32>,
        answers: Arc<Semaphore>,
    }

    impl Oracle {
        fn new() -> Self {
            Self { asked: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
        }

        fn ask(&self) -> impl Future<Output = u32> + Send + 'static {
            let number = self.asked.fetch_add(1, SeqCst) + 1;
            let answers = self.answers.clone();
            async move {
                answers.acquire().await.unwrap().forget();
                number
            }
        }
    }

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_question() {
        let (questions, oracle) = (Questions::default(), Oracle::new());
        let hundred: Vec<_> = (0..100).map(|_| questions.join("v1", || oracle.ask())).collect();
        let other = questions.join("v2", || oracle.ask());
        oracle.answers.add_permits(2);
        let hundred = join_all(hundred);
        let (answers, other) = tokio::join!(hundred, other);
        assert_eq!((answers, other, oracle.asked.load(SeqCst)), (vec![1; 100], 2, 2));
        // Nobody is told what was true before.
        oracle.answers.add_permits(1);
        assert_eq!(questions.answer("v1", || oracle.ask()).await, 3);
        assert_eq!(questions.open.lock().len(), 1, "what was answered is not kept");
    }

    #[tokio::test]
    async fn the_others_get_their_answer_though_the_first_has_left() {
        let (questions, oracle) = (Questions::default(), Oracle::new());
        let first = questions.join("v1", || oracle.ask());
        let mut second = questions.join("v1", || oracle.ask());
        let polled = first.clone().now_or_never();
        assert!(polled.is_none() && futures::poll!(&mut second).is_pending());
        drop(first);
        oracle.answers.add_permits(1);
        assert_eq!((second.await, oracle.asked.load(SeqCst)), (1, 1));
    }

    #[tokio::test]
    async fn a_question_ends_with_the_last_who_waits() {
        let (questions, oracle) = (Questions::default(), Oracle::new());
        let left = questions.join("v1", || oracle.ask());
        drop(left);
        oracle.answers.add_permits(1);
        assert_eq!(questions.answer("v1", || oracle.ask()).await, 2);
    }
}
