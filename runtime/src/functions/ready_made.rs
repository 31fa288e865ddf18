//! Functions that come with the library. Each of them only looks; none changes anything.

use super::{BotFunction, BotFunctions, calculator};
use crate::board::{Board, Rails, entries, number, text};
use crate::{Error, Result};
use jiff::Zoned;
use std::path::Path;

const NAMES: [&str; 4] = ["date", "time", "calculator", "system_info"];

impl BotFunctions {
    /// Functions that come with the library, by their names.
    ///
    /// ```
    /// use nano_runtime::BotFunctions;
    ///
    /// let functions = BotFunctions::ready_made(["date", "calculator"])?;
    /// assert_eq!(functions.call_text("calculator", "'6 * 7'").result, Ok(Some("42".into())));
    /// # Ok::<(), nano_runtime::Error>(())
    /// ```
    pub fn ready_made<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        Self::new(names.into_iter().map(function).collect::<Result<Vec<_>>>()?)
    }

    /// The names of the functions that come with the library.
    pub fn ready_made_names() -> &'static [&'static str] {
        &NAMES
    }
}

fn function(name: &str) -> Result<BotFunction> {
    Ok(match name {
        "date" => BotFunction::closure(name, "Tells today's date.", [], || date(&Zoned::now())),
        "time" => BotFunction::closure(name, "Tells the time of day.", [], || time(&Zoned::now())),
        "calculator" => {
            let description = "Computes an arithmetic expression with + - * / // % ** and parentheses.";
            BotFunction::closure(name, description, ["expression"], |expression: String| {
                calculator::compute(&expression)
            })
        }
        "system_info" => {
            let description = "Tells the temperature, free memory and power of the computer that you run on.";
            BotFunction::closure(name, description, [], || system_info(Path::new("/")))
        }
        _ => {
            let problem = format!("it is none of those that come with the library: {}", NAMES.join(", "));
            return Err(Error::Function { name: name.to_owned(), problem });
        }
    })
}

/// As in `Monday, May 5 2025`.
fn date(now: &Zoned) -> String {
    now.strftime("%A, %B %-d %Y").to_string()
}

/// As in `5:08 PM`.
fn time(now: &Zoned) -> String {
    now.strftime("%-I:%M %p").to_string()
}

/// What the small files below `root` tell; what is not there is left out.
fn system_info(root: &Path) -> std::result::Result<String, &'static str> {
    let board = Board::read(root).unwrap_or_default();
    let parts = [
        board.model.map(|model| format!("board: {model}")),
        temperatures(root).map(|all| format!("temperature: {all}")),
        memory(root).map(|all| format!("memory: {all}")),
        Rails::find(root).and_then(|rails| power(&rails)).map(|all| format!("power: {all}")),
        board.power_mode.map(|mode| format!("power mode: {mode}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { Err("this system tells nothing about itself") } else { Ok(parts.join("; ")) }
}

fn temperatures(root: &Path) -> Option<String> {
    let mut zones: Vec<(String, f64)> = Vec::new();
    for folder in entries(&root.join("sys/class/thermal")) {
        // Sensors that are switched off have no value, or one far below any that can be.
        let value =
            number(&folder.join("temp")).map(|value| value / 1000.0).filter(|value| (-60.0..200.0).contains(value));
        let (Some(name), Some(value)) = (text(&folder.join("type")), value) else { continue };
        let name = name.trim_end_matches("-thermal").trim_end_matches("-therm").to_owned();
        if zones.iter().all(|(known, _)| *known != name) {
            zones.push((name, value));
        }
    }
    let zones: Vec<String> = zones.iter().map(|(name, value)| format!("{name} {value:.1} °C")).collect();
    (!zones.is_empty()).then(|| zones.join(", "))
}

fn memory(root: &Path) -> Option<String> {
    let table = text(&root.join("proc/meminfo"))?;
    let gigabytes = |key: &str| {
        let line = table.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0 / 1e9)
    };
    Some(format!("{:.1} of {:.1} GB free", gigabytes("MemAvailable:")?, gigabytes("MemTotal:")?))
}

fn power(rails: &Rails) -> Option<String> {
    let rail = |(label, watts): (&str, f64)| format!("{label} {watts:.1} W");
    let each: Vec<String> = rails.each().map(rail).collect();
    Some(format!("{:.1} W ({})", rails.watts()?, each.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::tree;

    #[test]
    fn dates_and_times_have_the_day_where_it_belongs() {
        let at = |text: &str| text.parse::<Zoned>().unwrap();
        let evening = at("2024-05-13T17:08:51[Europe/Berlin]");
        assert_eq!((date(&evening).as_str(), time(&evening).as_str()), ("Monday, May 13 2024", "5:08 PM"));
        let night = at("2025-12-01T00:30:00[UTC]");
        assert_eq!((date(&night).as_str(), time(&night).as_str()), ("Monday, December 1 2025", "12:30 AM"));
    }

    #[test]
    fn all_are_there_and_answer() {
        let functions = BotFunctions::ready_made(BotFunctions::ready_made_names().iter().copied()).unwrap();
        assert_eq!(functions.names().collect::<Vec<_>>(), NAMES);
        for (name, arguments) in [("date", ""), ("time", ""), ("calculator", "'1+1'")] {
            assert!(functions.call_text(name, arguments).result.unwrap().is_some(), "{name}");
        }
        let error = BotFunctions::ready_made(["tme"]).unwrap_err().to_string();
        assert!(error.contains("tme") && error.contains("date, time, calculator, system_info"), "{error}");
    }

    #[test]
    fn a_system_is_described_by_what_it_has() {
        let root = tree(&[
            ("proc/device-tree/model", "NVIDIA Jetson Orin Nano\0"),
            ("proc/meminfo", "MemTotal:       7800000 kB\nMemFree: 1 kB\nMemAvailable:   5200000 kB\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "45250\n"),
            ("sys/class/thermal/thermal_zone1/type", "gpu-thermal\n"),
            ("sys/class/thermal/thermal_zone1/temp", "-256000\n"),
            ("sys/class/thermal/cooling_device0/type", "fan\n"),
            ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in1_label", "VDD_IN\n"),
            ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input", "1000\n"),
            ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in1_input", "5000\n"),
            ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in2_label", "VDD_SOC\n"),
            ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr2_input", "200\n"),
            ("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/in2_input", "5000\n"),
            ("var/lib/nvpmodel/status", "pmode:0001\n"),
        ]);
        assert_eq!(
            system_info(root.path()).unwrap(),
            "board: NVIDIA Jetson Orin Nano; temperature: cpu 45.2 °C; memory: 5.3 of 8.0 GB free; \
             power: 5.0 W (VDD_IN 5.0 W, VDD_SOC 1.0 W); power mode: number 1"
        );
        assert!(system_info(tree(&[]).path()).is_err());
    }
}
