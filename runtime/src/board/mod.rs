//! What a Jetson board's system says of it: model, release, power mode, clocks. All of it are small files; the root of the
//! tree is an argument, so that tests can bring their own. Other machines have some of the files or none. What the board
//! draws is in `power`.

mod power;

pub use power::{Rails, Watch};

use serde::Serialize;
use std::path::{Path, PathBuf};

/// What could be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Board {
    /// As in `NVIDIA Jetson AGX Orin Developer Kit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Release of Jetson Linux, as in 36.4.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4t: Option<String>,
    /// As in `MAXN` or `15W`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_mode: Option<String>,
    /// Of the GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_clock: Option<Clock>,
    /// Of the memory; most systems tell it to the superuser only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_clock: Option<Clock>,
}

/// A clock now, and at most as things are set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Clock {
    /// Now.
    pub mhz: f64,
    /// At most.
    pub max_mhz: f64,
}

impl Board {
    /// Reads the files below `root`; `None` if there is none of them.
    pub fn read(root: &Path) -> Option<Self> {
        let board = Self {
            model: text(&root.join("proc/device-tree/model")),
            l4t: text(&root.join("etc/nv_tegra_release")).and_then(|text| l4t(&text)),
            power_mode: power_mode(root),
            gpu_clock: gpu_clock(root),
            memory_clock: clock(&root.join("sys/kernel/debug/bpmp/debug/clk/emc"), "rate", "max_rate"),
        };
        (board != Self::default()).then_some(board)
    }

    /// For people: titles and values.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let clock = |clock: Clock| format!("{:.0} MHz, at most {:.0} MHz as it is set", clock.mhz, clock.max_mhz);
        let values = [
            ("board", self.model.clone()),
            ("Jetson Linux", self.l4t.clone()),
            ("power mode", self.power_mode.clone()),
            ("GPU clock", self.gpu_clock.map(clock)),
            ("memory clock", self.memory_clock.map(clock)),
        ];
        values.into_iter().filter_map(|(title, value)| Some((title, value?))).collect()
    }
}

/// A file's text without what ends it.
pub(crate) fn text(path: &Path) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// A file that holds one number.
pub(crate) fn number(path: &Path) -> Option<f64> {
    text(path)?.parse().ok()
}

/// What is in a folder, in order of names.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
}

/// From `# R36 (release), REVISION: 4.3, GCID: …`.
fn l4t(text: &str) -> Option<String> {
    let major: String = text.split_once('R')?.1.chars().take_while(char::is_ascii_digit).collect();
    let minor = text.split_once("REVISION:")?.1.split(',').next()?.trim();
    (!major.is_empty()).then(|| format!("{major}.{minor}"))
}

/// The number of the mode is in one file, the modes' names are in another.
fn power_mode(root: &Path) -> Option<String> {
    let status = text(&root.join("var/lib/nvpmodel/status"))?;
    let mode: u32 = status.split_once("pmode:")?.1.split_whitespace().next()?.parse().ok()?;
    let modes = text(&root.join("etc/nvpmodel.conf")).unwrap_or_default();
    let named = modes.lines().filter_map(|line| {
        let line = line.trim().strip_prefix('<')?.trim().strip_prefix("POWER_MODEL")?;
        let value = |key: &str| Some(line.split_once(key)?.1.split([' ', '>']).next()?.to_owned());
        (value("ID=")?.parse::<u32>().ok()? == mode).then(|| value("NAME="))?
    });
    let name = named.into_iter().next();
    Some(name.unwrap_or_else(|| format!("number {mode}")))
}

/// The boards name their GPU by its chip or by its word; of several units the one that computes comes first.
fn gpu_clock(root: &Path) -> Option<Clock> {
    let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let names = ["gpc", "gpu", "ga10b", "gv11b", "gp10b"];
    let folders = entries(&root.join("sys/class/devfreq"));
    let found = names.iter().find_map(|part| folders.iter().find(|folder| name(folder).contains(part)))?;
    clock(found, "cur_freq", "max_freq")
}

fn clock(folder: &Path, now: &str, most: &str) -> Option<Clock> {
    let mhz = |file: &str| Some(number(&folder.join(file))? / 1e6);
    Some(Clock { mhz: mhz(now)?, max_mhz: mhz(most)? })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nano_models::testing::TempDir;

    /// Files with their texts, below a root.
    pub(crate) fn tree(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new("board");
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const RELEASE: &str =
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n";
    const MODES: &str = "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MODE_30W >\n";

    #[test]
    fn a_board_is_read() {
        let root = tree(&[
            ("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0"),
            ("etc/nv_tegra_release", RELEASE),
            ("var/lib/nvpmodel/status", "pmode:0002 fmode:quiet\n"),
            ("etc/nvpmodel.conf", MODES),
            ("sys/class/devfreq/15340000.vic/cur_freq", "115200000\n"),
            ("sys/class/devfreq/17000000.gpu/cur_freq", "306000000\n"),
            ("sys/class/devfreq/17000000.gpu/max_freq", "1300500000\n"),
            ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "3199000000\n"),
            ("sys/kernel/debug/bpmp/debug/clk/emc/max_rate", "3199000000\n"),
        ]);
        let board = Board::read(root.path()).unwrap();
        assert_eq!(
            board,
            Board {
                model: Some("NVIDIA Jetson AGX Orin Developer Kit".into()),
                l4t: Some("36.4.3".into()),
                power_mode: Some("MODE_30W".into()),
                gpu_clock: Some(Clock { mhz: 306.0, max_mhz: 1300.5 }),
                memory_clock: Some(Clock { mhz: 3199.0, max_mhz: 3199.0 }),
            }
        );
        assert_eq!(board.lines().len(), 5);
        let json = serde_json::to_value(&board).unwrap();
        assert_eq!((&json["l4t"], &json["gpu_clock"]["max_mhz"]), (&"36.4.3".into(), &1300.5.into()));
    }

    #[test]
    fn what_is_missing_is_left_out() {
        assert_eq!(Board::read(tree(&[]).path()), None);
        let root = tree(&[
            ("var/lib/nvpmodel/status", "pmode:0008\n"),
            ("etc/nvpmodel.conf", MODES),
            ("etc/nv_tegra_release", "nonsense"),
            ("sys/class/devfreq/17000000.ga10b/cur_freq", "many"),
            ("sys/class/devfreq/17000000.ga10b/max_freq", "1"),
        ]);
        let board = Board::read(root.path()).unwrap();
        assert_eq!(board, Board { power_mode: Some("number 8".into()), ..Board::default() });
        assert_eq!(board.lines(), [("power mode", "number 8".to_owned())]);
    }

    #[test]
    fn of_several_units_the_one_that_computes_is_taken() {
        for (folders, expected) in [
            (["gpu-gpc-0", "gpu-nvd-0"], 1.0),
            (["17000000.gv11b", "15340000.vic"], 1.0),
            (["a.nvdec", "z.ga10b"], 2.0),
        ] {
            let files: Vec<(String, String)> = folders
                .iter()
                .zip(1..)
                .flat_map(|(f, n)| {
                    ["cur_freq", "max_freq"].map(|k| (format!("sys/class/devfreq/{f}/{k}"), format!("{n}000000")))
                })
                .collect();
            let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(gpu_clock(tree(&files).path()).map(|c| c.mhz), Some(expected), "{folders:?}");
        }
    }
}
