//! Long polling: pulls, pops and notifications that wait for a message of a queue.
//!
//! A request is parked under its queue and tags. The arrival of a message removes only the requests that match it and serves them
//! on the thread that stored the message, without handing over to another thread or polling. [`Hold::expired`] returns requests
//! whose deadline has passed.
//!
//! Invariants:
//! - A request is in the hold at most once, and the thread that removes it answers it.
//! - After parking a request, the thread checks the queue again, so that a message that arrived in between is not missed.
//! - The number of requests is limited by [`Bounds`], in all and per connection; more are refused.
//! - The cost of removing a request does not depend on how many others wait for the same queue or have the same deadline.

mod parked;

pub use parked::*;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        slots: 50_000,
        slots_per_connection: 50_000,
    };

    #[derive(Debug)]
    struct Request {
        queue: (&'static str, i32),
        owner: u64,
        tags: Option<Vec<i32>>,
        by_content: bool,
        name: u32,
    }

    impl Waiter for Request {
        fn queue(&self) -> (&str, i32) {
            self.queue
        }

        fn owner(&self) -> u64 {
            self.owner
        }

        fn is_disconnected(&self) -> bool {
            false
        }

        fn tags(&self) -> Option<&[i32]> {
            self.tags.as_deref()
        }

        fn is_by_content(&self) -> bool {
            self.by_content
        }
    }

    fn request(name: u32, owner: u64, tags: Option<&[i32]>) -> Request {
        Request {
            queue: ("t", 0),
            owner,
            tags: tags.map(<[i32]>::to_vec),
            by_content: false,
            name,
        }
    }

    fn names(requests: impl IntoIterator<Item = Request>) -> Vec<u32> {
        requests.into_iter().map(|request| request.name).collect()
    }

    #[test]
    fn a_message_wakes_requests_for_its_tag() {
        let hold = Hold::new(BOUNDS);
        hold.park(9, request(1, 1, None)).unwrap();
        hold.park(9, request(2, 1, Some(&[5, -7]))).unwrap();
        hold.park(9, request(3, 1, Some(&[6]))).unwrap();
        assert_eq!(names(hold.take("t", 0, -7, 10).requests), [1, 2]);
        assert_eq!(names(hold.take("t", 0, 5, 10).requests), Vec::<u32>::new());
        assert_eq!(names(hold.take("t", 1, 6, 10).requests), Vec::<u32>::new());
        // Only the lower 32 bits of a hash are compared, as in a filter.
        assert_eq!(names(hold.take("t", 0, (1 << 32) | 6, 10).requests), [3]);
        assert!(hold.is_clean());
    }

    #[test]
    fn requests_by_content_are_woken_separately() {
        let hold = Hold::new(BOUNDS);
        let by_content = |name, queue| Request {
            queue: ("t", queue),
            by_content: true,
            ..request(name, 1, None)
        };
        hold.park(9, request(1, 1, None)).unwrap();
        assert!(!hold.has_by_content());
        hold.park(9, by_content(2, 0)).unwrap();
        hold.park(9, by_content(3, ANY_QUEUE)).unwrap();
        hold.park(9, by_content(4, 1)).unwrap();
        assert_eq!(names(hold.take("t", 0, 5, 10).requests), [1]);
        let taken = hold.take_by_content("t", 0, 1);
        assert_eq!((names(taken.requests), taken.more), (vec![2], true));
        assert_eq!(names(hold.take_by_content("t", 0, 10).requests), [3]);
        assert_eq!(names(hold.take_all("t", 1, 10).requests), [4]);
        assert!(hold.is_clean());
    }

    #[test]
    fn requests_for_any_queue_are_woken_by_each_queue() {
        let hold = Hold::new(BOUNDS);
        let any = |name, tags| Request {
            queue: ("t", ANY_QUEUE),
            ..request(name, 1, tags)
        };
        hold.park(9, any(1, None)).unwrap();
        hold.park(9, any(2, Some(&[5]))).unwrap();
        hold.park(9, request(3, 1, None)).unwrap();
        assert_eq!(names(hold.take("t", 7, 6, 10).requests), [1]);
        assert_eq!(names(hold.take("u", 0, 5, 10).requests), Vec::<u32>::new());
        assert_eq!(names(hold.take("t", 0, 5, 10).requests), [3, 2]);
        hold.park(9, any(4, None)).unwrap();
        assert_eq!(names(hold.take_all("t", 3, 10).requests), [4]);
        hold.park(9, request(5, 1, None)).unwrap();
        hold.park(9, any(6, Some(&[5]))).unwrap();
        assert_eq!((hold.count("t", 0), hold.count("t", ANY_QUEUE), hold.count("u", 0)), (1, 1, 0));
        let taken = hold.take_of("t", 1);
        assert_eq!((names(taken.requests), taken.more), (vec![5], true));
        assert_eq!(names(hold.take_of("t", 9).requests), [6]);
        assert!(hold.is_clean());
    }

    #[test]
    fn at_most_the_requested_number_is_removed() {
        let hold = Hold::new(BOUNDS);
        for name in 0..5 {
            hold.park(i64::from(name), request(name, 1, (name % 2 == 0).then_some(&[1, 2])))
                .unwrap();
        }
        let taken = hold.take("t", 0, 2, 2);
        assert_eq!((names(taken.requests), taken.more), (vec![1, 3], true));
        let taken = hold.take_all("t", 0, 2);
        assert_eq!((names(taken.requests), taken.more), (vec![0, 2], true));
        let taken = hold.take_all("t", 0, 2);
        assert_eq!((names(taken.requests), taken.more), (vec![4], false));
        assert!(hold.is_clean());
    }

    #[test]
    fn expired_requests_are_removed_in_order_of_their_deadline() {
        let hold = Hold::new(BOUNDS);
        for (name, deadline) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
            hold.park(deadline, request(name, 1, None)).unwrap();
        }
        let taken = hold.expired(30, 2);
        assert_eq!((names(taken.requests), taken.more), (vec![2, 3], true));
        let taken = hold.expired(30, 2);
        assert_eq!((names(taken.requests), taken.more), (vec![1], false));
        assert_eq!(hold.len(), 1);
    }

    #[test]
    fn requests_are_limited_per_connection_and_in_all() {
        let hold = Hold::new(Bounds {
            slots: 5,
            slots_per_connection: 3,
        });
        let why = |owner, tags| hold.park(9, request(0, owner, tags)).map(drop).map_err(|(_, why)| why);
        // A request with many tags takes more slots.
        let tags: Vec<i32> = (0..16).collect();
        assert_eq!(why(1, Some(&tags)), Ok(()));
        assert_eq!(why(1, None), Ok(()));
        assert_eq!(why(1, None), Err(NotParked::FullForOne(3)));
        assert_eq!(why(2, None), Ok(()));
        assert_eq!(why(2, Some(&tags)), Err(NotParked::Full(3)));
        hold.forget(1);
        assert_eq!((hold.len(), hold.owners()), (1, 1));
        assert_eq!(why(1, None), Ok(()));
        hold.close();
        assert_eq!(why(1, None), Err(NotParked::Closed));
        assert_eq!(hold.take_all("t", 0, 10).requests.len(), 2);
        assert!(hold.is_clean());
    }

    #[test]
    fn requests_are_removed_by_id_and_by_predicate() {
        let hold = Hold::new(BOUNDS);
        let first = hold.park(9, request(1, 1, None)).unwrap();
        hold.park(9, request(2, 1, None)).unwrap();
        hold.park(9, request(3, 1, Some(&[1]))).unwrap();
        assert_eq!(hold.take_one(first).map(|request| request.name), Some(1));
        assert!(hold.take_one(first).is_none());
        assert_eq!(names(hold.take_if(|request| request.name > 2)), [3]);
        assert_eq!(hold.len(), 1);
    }

    #[test]
    fn idle_queues_are_removed() {
        let hold = Hold::new(BOUNDS);
        for queue_id in 0..10_000 {
            let mut one = request(0, 1, None);
            one.queue.1 = queue_id;
            hold.park(9, one).unwrap();
            hold.take_all("t", queue_id, 1);
        }
        assert!(hold.is_clean());
    }
}
