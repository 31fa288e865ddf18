//! What a board draws while something runs, from the rails that its power monitors (INA3221) measure. The root of the tree
//! is an argument, as for the board.

use super::{entries, number, text};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at the rails: the monitors themselves average over about as long.
const PAUSE: Duration = Duration::from_millis(50);

/// A rail: files with its current in mA and its voltage in mV.
#[derive(Clone, Debug, PartialEq)]
struct Rail {
    label: String,
    current: PathBuf,
    voltage: PathBuf,
}

impl Rail {
    fn watts(&self) -> Option<f64> {
        Some(number(&self.current)? * number(&self.voltage)? / 1e6)
    }
}

/// The rails of a board, and which of them together are what it draws.
#[derive(Clone, Debug, PartialEq)]
pub struct Rails {
    all: Vec<Rail>,
    parts: Vec<Rail>,
}

impl Rails {
    /// Those below `root`; `None` if the machine has none.
    pub fn find(root: &Path) -> Option<Self> {
        let monitors = entries(&root.join("sys/bus/i2c/drivers/ina3221"));
        let folders = monitors.iter().flat_map(|monitor| entries(&monitor.join("hwmon")));
        let rails: Vec<Rail> = folders.flat_map(|folder| (1..=3).filter_map(move |n| rail(&folder, n))).collect();
        let all = rails.clone();
        let total = rails.iter().find(|rail| rail.label == "VDD_IN").cloned();
        let parts = match total {
            // The board's input, all others come from it.
            Some(total) => vec![total],
            // Memory is fed from the 5 V rail, where both are measured.
            None if rails.iter().any(|rail| rail.label == "VIN_SYS_5V0") => {
                rails.into_iter().filter(|rail| !rail.label.starts_with("VDDQ_")).collect()
            }
            None => rails,
        };
        (!parts.is_empty()).then_some(Self { all, parts })
    }

    /// Watts at this moment; `None` if a rail does not answer.
    pub fn watts(&self) -> Option<f64> {
        self.parts.iter().map(Rail::watts).sum()
    }

    /// Name and watts of each rail that answers, parts and wholes alike.
    pub fn each(&self) -> impl Iterator<Item = (&str, f64)> {
        self.all.iter().filter_map(|rail| Some((rail.label.as_str(), rail.watts()?)))
    }

    /// Looks at the rails from now on, in a thread.
    pub fn watch(self) -> Watch {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut joules = 0.0;
            let mut last = (Instant::now(), self.watts()?);
            loop {
                let end = stopped.recv_timeout(PAUSE) != Err(std::sync::mpsc::RecvTimeoutError::Timeout);
                let now = (Instant::now(), self.watts()?);
                joules += (last.1 + now.1) / 2.0 * (now.0 - last.0).as_secs_f64();
                last = now;
                if end {
                    return Some(joules);
                }
            }
        });
        Watch { stop, thread }
    }
}

/// Rails that are being watched.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Option<f64>>,
}

impl Watch {
    /// Joules drawn since the watch began; `None` if a rail stopped answering.
    pub fn joules(self) -> Option<f64> {
        // If the thread is gone it has its answer.
        let _ = self.stop.send(());
        self.thread.join().ok().flatten()
    }
}

fn rail(folder: &Path, channel: u32) -> Option<Rail> {
    let label = text(&folder.join(format!("in{channel}_label")))?;
    let current = folder.join(format!("curr{channel}_input"));
    let voltage = folder.join(format!("in{channel}_input"));
    // A channel that is not connected has a name like "NC" and no current.
    (number(&current).is_some() && number(&voltage).is_some()).then_some(Rail { label, current, voltage })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nano_models::testing::TempDir;

    /// Rails as (label, mA, mV), three to a monitor.
    fn tree(rails: &[(&str, &str, &str)]) -> TempDir {
        let root = TempDir::new("rails");
        for (i, (label, current, voltage)) in rails.iter().enumerate() {
            let folder =
                root.path().join(format!("sys/bus/i2c/drivers/ina3221/1-004{}/hwmon/hwmon{}", i / 3, 3 + i / 3));
            std::fs::create_dir_all(&folder).unwrap();
            let channel = i % 3 + 1;
            for (name, text) in [
                (format!("in{channel}_label"), label),
                (format!("curr{channel}_input"), current),
                (format!("in{channel}_input"), voltage),
            ] {
                std::fs::write(folder.join(name), format!("{text}\n")).unwrap();
            }
        }
        root
    }

    fn watts(rails: &[(&str, &str, &str)]) -> Option<f64> {
        let root = tree(rails);
        Rails::find(root.path()).map(|rails| rails.watts().unwrap())
    }

    #[test]
    fn the_boards_input_is_the_whole() {
        let small = [("VDD_IN", "1000", "5000"), ("VDD_CPU_GPU_CV", "400", "5000"), ("VDD_SOC", "200", "5000")];
        assert_eq!(watts(&small), Some(5.0));
    }

    #[test]
    fn without_it_the_rails_are_summed_once() {
        let large = [
            ("VDD_GPU_SOC", "1000", "12000"),
            ("VDD_CPU_CV", "500", "12000"),
            ("VIN_SYS_5V0", "800", "5000"),
            ("NC", "", ""),
            ("VDDQ_VDD2_1V8AO", "300", "5000"),
        ];
        assert_eq!(watts(&large), Some(12.0 + 6.0 + 4.0));
        assert_eq!(watts(&[("GPU", "100", "10000"), ("CPU", "200", "10000")]), Some(3.0));
        assert_eq!(watts(&[]), None);
    }

    #[test]
    fn power_over_time_is_energy() {
        let root = tree(&[("VDD_IN", "2000", "5000")]);
        let begun = Instant::now();
        let watch = Rails::find(root.path()).unwrap().watch();
        std::thread::sleep(Duration::from_millis(130));
        let joules = watch.joules().unwrap();
        let most = 10.0 * begun.elapsed().as_secs_f64();
        assert!((1.0..=most).contains(&joules), "{joules} of {most}");
        let gone = tree(&[("VDD_IN", "2000", "5000")]);
        let rails = Rails::find(gone.path()).unwrap();
        drop(gone);
        assert_eq!(rails.watch().joules(), None, "the rail is gone");
    }
}
