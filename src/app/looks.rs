//! Decides when changed files are used: pure.
//!
//! Several files cannot change in one step, and half of a change can be valid. So a change counts only once two looks
//! in a row have found it. Likewise, a reason not to use the files counts once two looks in a row have found it.

/// The next step after one look at the files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Keep the content in use.
    Keep,
    /// Look again soon, because this look is the first to find this change or this mistake.
    LookAgain,
    /// Use the content that this look found, and then call [`Looks::used`] or [`Looks::unusable`].
    Use,
    /// The files hold the content in use again, after a report that they did not.
    Restored,
    /// Report that the files cannot be used, for this reason.
    Report(String),
}

/// The memory of the last looks at files whose content is a `T`.
#[derive(Debug)]
pub(super) struct Looks<T> {
    /// The change that the last look found.
    changed: Option<T>,
    /// Why the files cannot be used, as the last look found.
    unusable: Option<String>,
    /// The reason that was reported last, until files are used or restored.
    reported: Option<String>,
}

impl<T> Default for Looks<T> {
    fn default() -> Self {
        Self { changed: None, unusable: None, reported: None }
    }
}

impl<T: Clone + PartialEq> Looks<T> {
    /// Decides after one look, which found this content or the reason why the files cannot be used.
    pub fn step(&mut self, in_use: &T, found: Result<&T, String>) -> Step {
        match found {
            Ok(found) if found == in_use => {
                let was_reported = self.is_reported();
                *self = Self::default();
                if was_reported { Step::Restored } else { Step::Keep }
            }
            Ok(found) if self.changed.as_ref() != Some(found) => {
                (self.changed, self.unusable) = (Some(found.clone()), None);
                Step::LookAgain
            }
            Ok(_) => Step::Use,
            Err(why) => {
                self.changed = None;
                self.unusable(why)
            }
        }
    }

    /// Notes that the change which the last look found is in use.
    pub fn used(&mut self) {
        *self = Self::default();
    }

    /// Notes why the change which the last look found cannot be used.
    pub fn unusable(&mut self, why: String) -> Step {
        if self.unusable.as_ref() != Some(&why) {
            self.unusable = Some(why);
            Step::LookAgain
        } else if self.reported.as_ref() == Some(&why) {
            Step::Keep
        } else {
            self.reported = Some(why.clone());
            Step::Report(why)
        }
    }

    /// Whether there was a report, and nothing has been used or restored since.
    pub fn is_reported(&self) -> bool {
        self.reported.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half() -> Result<&'static u8, String> {
        Err("half".to_owned())
    }

    #[test]
    fn one_look_at_half_a_change_is_not_reported() {
        let mut looks = Looks::default();
        let other = Err("another".to_owned());
        assert_eq!(looks.step(&1, Ok(&1)), Step::Keep);
        assert_eq!(looks.step(&1, half()), Step::LookAgain);
        assert_eq!(looks.step(&1, other), Step::LookAgain);
        assert_eq!(looks.step(&1, half()), Step::LookAgain);
        assert!(!looks.is_reported());
        assert_eq!(looks.step(&1, half()), Step::Report("half".to_owned()));
        assert_eq!(looks.step(&1, half()), Step::Keep);
        assert!(looks.is_reported());
        assert_eq!(looks.step(&1, Ok(&1)), Step::Restored);
        assert_eq!(looks.step(&1, Ok(&1)), Step::Keep);
    }

    #[test]
    fn a_change_counts_when_two_looks_in_a_row_have_found_it() {
        let mut looks = Looks::default();
        assert_eq!(looks.step(&1, Ok(&2)), Step::LookAgain);
        assert_eq!(looks.step(&1, Ok(&3)), Step::LookAgain);
        assert_eq!(looks.step(&1, half()), Step::LookAgain);
        assert_eq!(looks.step(&1, Ok(&3)), Step::LookAgain, "not in a row");
        assert_eq!(looks.step(&1, Ok(&3)), Step::Use);
        looks.used();
        assert_eq!(looks.step(&3, Ok(&3)), Step::Keep);
        assert_eq!(looks.step(&3, Ok(&2)), Step::LookAgain);
        assert_eq!(looks.step(&3, Ok(&3)), Step::Keep, "back again");
        assert_eq!(looks.step(&3, Ok(&2)), Step::LookAgain);
    }

    #[test]
    fn a_change_that_cannot_be_used_is_reported_once() {
        let mut looks = Looks::default();
        let why = || "unfit".to_owned();
        assert_eq!(looks.step(&1, Ok(&2)), Step::LookAgain);
        assert_eq!((looks.step(&1, Ok(&2)), looks.unusable(why())), (Step::Use, Step::LookAgain));
        assert_eq!((looks.step(&1, Ok(&2)), looks.unusable(why())), (Step::Use, Step::Report(why())));
        assert_eq!((looks.step(&1, Ok(&2)), looks.unusable(why())), (Step::Use, Step::Keep));
        assert_eq!(looks.step(&1, half()), Step::LookAgain);
        assert_eq!(looks.step(&1, half()), Step::Report("half".to_owned()));
        assert_eq!(looks.step(&1, Ok(&2)), Step::LookAgain);
        assert_eq!(looks.step(&1, Ok(&2)), Step::Use);
        looks.used();
        assert_eq!((looks.is_reported(), looks.step(&2, Ok(&2))), (false, Step::Keep));
    }
}
