//! What loading has to say in the end: tensors that nobody used are an error, all else is told.

use super::Loader;
use crate::{Error, Result};
use nano_kernels::{Backend, Format};

impl<B: Backend> Loader<'_, B> {
    /// Refuses tensors that nobody used, and puts into words what the user should know.
    pub fn finish(&self) -> Result<Vec<String>> {
        let arch = self.spec.arch;
        let ignored = |name: &str| arch.ignored.iter().any(|end| name.ends_with(end));
        let left: Vec<&str> =
            self.checkpoint.names().into_iter().filter(|n| !self.used.contains(*n) && !ignored(n)).collect();
        if let Some(first) = left.first() {
            let more =
                if left.len() > 1 { format!(" (and {} more such tensors)", left.len() - 1) } else { String::new() };
            let why = format!("is not used by architecture {}{more}: this is another kind of model", arch.name);
            return Err(Error::tensor(self.checkpoint.path(), first, why));
        }
        let mut notices = self.checkpoint.notices();
        let converted = self.converted.iter();
        notices.extend(converted.map(|((from, to), n)| format!("{n} tensors of format {from} were converted to {to}")));
        if let Some(asked) = self.options.quantization.filter(|_| !self.again.is_empty()) {
            let formats: Vec<&str> = self.again.iter().copied().collect();
            notices.push(format!(
                "the checkpoint is quantized already ({}): quantizing it again to {} loses quality; without --quantization it is kept as it is",
                formats.join(", "),
                asked.name()
            ));
        }
        let others = |n: usize| if n > 1 { format!(" and {} other tensors", n - 1) } else { String::new() };
        if let Some(name) = self.reordered.first() {
            let (more, to) = (others(self.reordered.len()), B::native(Format::F32));
            notices.push(format!(
                "tensor {name}{more}: held as {to}, because tensors that are read with it have their columns in another order"
            ));
        }
        if let Some((name, n)) = self.broken.first() {
            let more = others(self.broken.len());
            notices
                .push(format!("tensor {name} has {n} values that are not finite numbers{more}: the file is damaged"));
        }
        Ok(notices)
    }
}
