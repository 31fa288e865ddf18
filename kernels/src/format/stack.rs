//! What matrices must have in common to be stacked in one weight, as far as all backends want the same.

use super::{Format, HostTensor};
use crate::{Error, Result};
use std::sync::Arc;

impl HostTensor<'_> {
    /// Whether the columns of both lie in one order, so that they can be stacked. [`convert`](HostTensor::convert) to
    /// another format brings columns into the order of the inputs.
    pub fn same_order(&self, other: &HostTensor<'_>) -> bool {
        self.order == other.order
    }

    /// The greatest zero point, and the greatest that quants of this width can have: GPTQ's are one more than they are
    /// stored as.
    fn zero_points(&self) -> (u16, u16) {
        let most = match self.format {
            Format::Int4(_) => 16,
            Format::Int8(_) => 256,
            _ => return (0, 0),
        };
        let blocks = self.bytes.chunks_exact(self.format.block_bytes());
        (blocks.map(|block| u16::from_le_bytes([block[2], block[3]])).max().unwrap_or(0), most)
    }
}

/// The one order in which the columns of all parts lie; `None` is that of the inputs. Zero points are looked at as well:
/// kernels are exact for those that quants can have.
pub fn stacked(parts: &[HostTensor<'_>]) -> Result<Option<Arc<[u32]>>> {
    for part in parts {
        let first = &parts[0];
        if !part.same_order(first) {
            return Err(Error::Unsupported(format!(
                "tensor {}: its columns are in another order than those of {}, and the two are multiplied as one; \
                 convert them to a format without an order of columns, or keep them apart",
                part.name, first.name
            )));
        }
        let (zero, most) = part.zero_points();
        if zero > most {
            let (what, expected) = (format!("tensor {}: a zero point", part.name), format!("at most {most}"));
            return Err(Error::Shape { what, found: zero.to_string(), expected });
        }
    }
    let order = parts.first().and_then(|part| part.order.clone());
    match order {
        Some(order) if order.len() != parts[0].cols || order.iter().any(|input| *input as usize >= order.len()) => {
            let what = format!("tensor {}: its order of columns", parts[0].name);
            let expected = format!("{} numbers below that", parts[0].cols);
            Err(Error::Shape { what, found: format!("{} numbers", order.len()), expected })
        }
        order => Ok(order),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;
    use crate::testing::Random;
    use std::borrow::Cow;

    fn tensor(name: &str, format: Format) -> HostTensor<'static> {
        let bytes = Random::new(1).weight(format, 4, 64);
        HostTensor::new(name, format, 4, 64, Cow::Owned(bytes)).unwrap()
    }

    #[test]
    fn parts_share_one_order() {
        let turned = |by: u32| (0..64).map(|column| (column + by) % 64).collect::<Vec<u32>>();
        let part = |name, by| tensor(name, Format::Int4(Group::G32)).with_order(&turned(by)).unwrap();
        assert_eq!(stacked(&[part("q", 3), part("k", 3)]).unwrap().as_deref(), Some(&turned(3)[..]));
        assert!(stacked(&[part("q", 0), tensor("k", Format::F16)]).unwrap().is_none());
        for other in [part("k", 4), part("k", 0), tensor("k", Format::F16)] {
            let error = stacked(&[part("q", 3), other]).unwrap_err().to_string();
            assert!(error.contains("tensor k") && error.contains("of q"), "{error}");
        }
        let mut broken = part("q", 3);
        broken.order = Some([64; 64].into());
        assert!(stacked(&[broken]).unwrap_err().to_string().contains("tensor q"));
    }

    #[test]
    fn zero_points_are_those_of_quants() {
        for (format, most) in [(Format::Int4(Group::G64), 16_u16), (Format::Int8(Group::G32), 256)] {
            let mut tensor = tensor("down", format);
            let at = tensor.bytes.len() - format.block_bytes() + 2;
            tensor.bytes.to_mut()[at..at + 2].copy_from_slice(&most.to_le_bytes());
            assert!(stacked(std::slice::from_ref(&tensor)).is_ok());
            tensor.bytes.to_mut()[at..at + 2].copy_from_slice(&(most + 1).to_le_bytes());
            let error = stacked(&[tensor]).unwrap_err().to_string();
            assert!(error.contains("down") && error.contains(&format!("at most {most}")), "{error}");
        }
    }
}
