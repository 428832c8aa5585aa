//! What was held back is let go under another config than it was held under.

use super::{
    muting::{MINUTE, by_event},
    *,
};

/// A group was told as over while a silence held one of its alerts. That is over for whoever was told, also if a reload has
/// the action hear no more of ends before the silence ends: what fires on is news then. (Found by the simulation.)
#[test]
fn what_was_told_as_over_is_news_when_it_is_let_go_whether_or_not_ends_are_heard_by_then() {
    for hears_ends in [true, false] {
        let mut world = World::new(by_event());
        world.alert(A, Some(10 * HOUR));
        world.alert(B, Some(10 * HOUR));
        world.wait(MINUTE);
        let held = world.silence(5, &["host=b"], HOUR as u64);
        world.alert(A, Some(0));
        world.wait(5 * MINUTE);
        assert_eq!(world.told().last().map(|told| told.1), Some(NotifyReason::AllResolved));
        let log = ActionSpec { send_resolved: hears_ends, ..action("ops", "log") };
        world.install(config(vec![log], grouped()), vec![]);
        world.expire(held);
        world.wait(5 * MINUTE);
        let last = world.told().last().map(|told| (told.1, told.2));
        assert_eq!(last, Some((NotifyReason::FirstTime, 1)), "hears ends: {hears_ends}");
    }
}
