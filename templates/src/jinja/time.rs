//! `strftime_now`: the date for templates that tell the model what day it is. Times are plain civil times; the only place
//! that asks the system for the local time is here.

use minijinja::{Environment, Error, State, Value};

use super::invalid;

/// A civil date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The year, for example 2024.
    pub year: i16,
    /// The month, 1 to 12.
    pub month: i8,
    /// The day of the month, 1 to 31.
    pub day: i8,
    /// The hour, 0 to 23.
    pub hour: i8,
    /// The minute, 0 to 59.
    pub minute: i8,
    /// The second, 0 to 59.
    pub second: i8,
}

/// The name under which the renderer passes the time; no template can spell it.
const NOW: &str = " now";

/// Fixes what `strftime_now` says, where the caller wants that.
pub(super) fn set_now(env: &mut Environment<'_>, now: Option<Time>) {
    if let Some(t) = now {
        let fields = [i64::from(t.year), t.month.into(), t.day.into(), t.hour.into(), t.minute.into(), t.second.into()];
        env.add_global(NOW, Value::from(fields.to_vec()));
    }
}

/// `strftime_now(format)`: the local time in the format of Python's `strftime`.
pub(super) fn strftime_now(state: &State, format: &str) -> Result<String, Error> {
    let now = match state.lookup(NOW) {
        Some(fixed) => civil(&fixed)?,
        None => jiff::Zoned::now().datetime(),
    };
    // A Python datetime without a time zone prints nothing for these two.
    let format = format.replace("%Z", "").replace("%z", "");
    jiff::fmt::strtime::format(&format, now)
        .map_err(|e| invalid(format!("strftime_now does not understand {format:?}: {e}")))
}

fn civil(fixed: &Value) -> Result<jiff::civil::DateTime, Error> {
    let at = |index| fixed.get_item_by_index(index).map(|v| v.as_i64().unwrap_or(0));
    let [month, day, hour, minute, second] =
        [at(1)?, at(2)?, at(3)?, at(4)?, at(5)?].map(|v| i8::try_from(v).unwrap_or(-1));
    let year = i16::try_from(at(0)?).unwrap_or(0);
    jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0)
        .map_err(|e| invalid(format!("the time given as now is no time: {e}")))
}
