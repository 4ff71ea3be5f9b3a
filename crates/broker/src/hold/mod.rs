//! Requests that wait for messages of a queue: parked pulls, later pop and notification.
//!
//! A request is parked under its queue and the tags it wants. The arrival of a message takes out those that it concerns, and looks at
//! no others, and serves them on the thread that stored it: no hand-over, no poll. A request that waits too long is given back by
//! [`Hold::expired`].
//!
//! Invariants:
//! - A request is in the hold at most once, and whoever takes it out answers it.
//! - Whoever parks looks at the queue once more afterwards, so that a message that came in between is not missed.
//! - There are never more than [`Bounds`] say, in all and of one connection; more are refused.
//! - Taking a request out costs the same however many others wait for the same queue or until the same time.

mod parked;

pub use parked::*;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        places: 50_000,
        places_of_one: 50_000,
    };

    #[derive(Debug)]
    struct Request {
        queue: (&'static str, i32),
        owner: u64,
        tags: Option<Vec<i32>>,
        name: u32,
    }

    impl Waits for Request {
        fn queue(&self) -> (&str, i32) {
            self.queue
        }

        fn owner(&self) -> u64 {
            self.owner
        }

        fn is_gone(&self) -> bool {
            false
        }

        fn tags(&self) -> Option<&[i32]> {
            self.tags.as_deref()
        }
    }

    fn request(name: u32, owner: u64, tags: Option<&[i32]>) -> Request {
        Request {
            queue: ("t", 0),
            owner,
            tags: tags.map(<[i32]>::to_vec),
            name,
        }
    }

    fn names(requests: impl IntoIterator<Item = Request>) -> Vec<u32> {
        requests.into_iter().map(|request| request.name).collect()
    }

    #[test]
    fn a_message_takes_those_that_want_its_tag() {
        let hold = Hold::new(BOUNDS);
        hold.park(9, request(1, 1, None)).unwrap();
        hold.park(9, request(2, 1, Some(&[5, -7]))).unwrap();
        hold.park(9, request(3, 1, Some(&[6]))).unwrap();
        assert_eq!(names(hold.take("t", 0, -7, 10).requests), [1, 2]);
        assert_eq!(names(hold.take("t", 0, 5, 10).requests), Vec::<u32>::new());
        assert_eq!(names(hold.take("t", 1, 6, 10).requests), Vec::<u32>::new());
        // Of a hash only the lower half is compared, as in a filter.
        assert_eq!(names(hold.take("t", 0, (1 << 32) | 6, 10).requests), [3]);
        assert!(hold.is_clean());
    }

    #[test]
    fn who_waits_for_any_queue_is_taken_by_each() {
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
        assert!(hold.is_clean());
    }

    #[test]
    fn no_more_are_taken_than_asked_for() {
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
    fn those_whose_time_is_up_are_taken_in_its_order() {
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
    fn one_connection_has_a_share_and_all_have_a_bound() {
        let hold = Hold::new(Bounds {
            places: 5,
            places_of_one: 3,
        });
        let why = |owner, tags| hold.park(9, request(0, owner, tags)).map(drop).map_err(|(_, why)| why);
        // Many tags take more places.
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
    fn one_can_be_taken_by_its_number_and_some_by_what_they_are() {
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
    fn queues_nobody_waits_for_are_forgotten() {
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
