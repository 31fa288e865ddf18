//! Which kernels a device gets: the PTX in this program, by compute capability, and what a text of PTX says of its
//! kernels. Pure: loads nothing. The list is made with the PTX, by `scripts/kernels`.

use crate::{Error, Result};

include!("../../../cuda/ptx/images.inc");

/// A text of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its file.
    pub name: &'static str,
    /// The text.
    pub ptx: &'static str,
}

/// A kernel in a text of PTX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Bytes of each parameter.
    pub params: Vec<u8>,
}

/// The sources of all kernels and headers, by file, for those who compile them on the device.
pub fn sources() -> &'static [(&'static str, &'static str)] {
    SOURCES
}

/// The virtual architecture whose PTX a device of this compute capability (times ten) takes.
pub fn target(capability: u32) -> Result<&'static str> {
    match capability {
        80.. => Ok("compute_80"),
        // PTX runs on its own capability and later ones.
        72..80 => Ok("compute_72"),
        _ => Err(Error::Device(format!(
            "the GPU has compute capability {}.{} and 7.2 or newer is needed: take --device cpu",
            capability / 10,
            capability % 10
        ))),
    }
}

/// The images for a device of this compute capability.
pub fn images(capability: u32) -> Result<Vec<Image>> {
    let target = target(capability)?;
    let ending = format!(".{target}.ptx");
    let fits = PTX.iter().filter(|(name, _)| name.ends_with(&ending));
    let images: Vec<Image> = fits.map(|&(name, ptx)| Image { name, ptx }).collect();
    if images.is_empty() {
        return Err(Error::Device(format!("this build has no kernels for {target}: take --device cpu")));
    }
    Ok(images)
}

/// The kernels of a text of PTX. Parameters are plain words; one of another kind counts as 0 bytes, and no argument
/// fits it.
pub fn entries(ptx: &str) -> Vec<Entry> {
    ptx.split(".entry").skip(1).filter_map(entry).collect()
}

fn entry(text: &str) -> Option<Entry> {
    let (name, rest) = text.split_once('(')?;
    let (params, _) = rest.split_once(')')?;
    let params = params.split(".param").skip(1).map(|param| match param.split_whitespace().next() {
        Some(".u64" | ".s64" | ".b64" | ".f64") => 8,
        Some(".u32" | ".s32" | ".b32" | ".f32") => 4,
        _ => 0,
    });
    Some(Entry { name: name.trim().to_owned(), params: params.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_generation_gets_its_image() {
        for (capability, expected) in
            [(72, "compute_72"), (75, "compute_72"), (80, "compute_80"), (87, "compute_80"), (90, "compute_80")]
        {
            assert_eq!(target(capability).unwrap(), expected);
        }
        assert_eq!((target(110).unwrap(), target(121).unwrap()), ("compute_80", "compute_80"));
        for (capability, words) in [(70, "7.0"), (62, "6.2"), (0, "0.0")] {
            let error = target(capability).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("--device cpu"), "{error}");
        }
    }

    /// What is in the program is what lies in the folder, text for text.
    #[test]
    fn the_lists_are_the_folders() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
        let look = |folder: &std::path::Path, endings: &[&str]| -> BTreeSet<(String, String)> {
            let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let wanted = |path: &std::path::PathBuf| endings.iter().any(|e| path.extension().is_some_and(|x| x == *e));
            let text = |path: std::path::PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, std::fs::read_to_string(path).unwrap())
            };
            files.filter(wanted).map(text).collect()
        };
        let list = |list: &[(&str, &str)]| -> BTreeSet<(String, String)> {
            list.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
        };
        let names = |set: &BTreeSet<(String, String)>| set.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        for (listed, found) in
            [(list(PTX), look(&folder.join("ptx"), &["ptx"])), (list(SOURCES), look(&folder, &["cu", "cuh"]))]
        {
            assert_eq!(names(&listed), names(&found), "run scripts/kernels generate");
            assert!(listed == found, "a text differs from its file");
        }
    }

    #[test]
    fn kernels_and_their_parameters_are_read() {
        let ptx = "\
.version 7.4
.target sm_80
.visible .entry one(
	.param .u64 one_param_0,
	.param .u32 one_param_1,
	.param .f32 one_param_2
)
.maxntid 128, 1, 1
{
	ld.param.u64 %rd1, [one_param_0];
}
.visible .entry none()
{
}
.visible .entry odd(
	.param .u64 .ptr .global .align 8 odd_param_0,
	.param .align 16 .b8 odd_param_1[48]
)
{
}
";
        let found: Vec<(String, Vec<u8>)> = entries(ptx).into_iter().map(|e| (e.name, e.params)).collect();
        let expected = [("one", vec![8, 4, 4]), ("none", vec![]), ("odd", vec![8, 0])];
        assert_eq!(found, expected.map(|(name, params)| (name.to_owned(), params)));
    }

    #[test]
    fn no_kernel_is_in_two_images_of_a_generation() {
        for ending in [".compute_72.ptx", ".compute_80.ptx"] {
            let mut seen = BTreeSet::new();
            for (name, ptx) in PTX.iter().filter(|(name, _)| name.ends_with(ending)) {
                assert!(ptx.contains(".version 7.4") && ptx.contains(&ending[9..11]), "{name}");
                let entries = entries(ptx);
                assert!(!entries.is_empty(), "{name}");
                for entry in entries {
                    assert!(entry.params.iter().all(|p| *p > 0), "{name}: {entry:?}");
                    assert!(seen.insert(entry.name.clone()), "{name}: {} is there twice", entry.name);
                }
            }
        }
    }
}
