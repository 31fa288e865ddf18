//! Python pickles as PyTorch writes them for a dictionary of tensors, and nothing more: a pickle is a program, and of
//! this one only the parts are known that build dictionaries, tuples and tensors. Whatever else it asks for is refused
//! by its name; no code is ever looked up. Takes time and memory in proportion to the bytes, whatever they are.

use std::collections::{HashMap, HashSet};

/// What is wrong, in words. The caller adds the file.
pub(super) type Fault = String;

/// Longest name of a storage or of its kind: every tensor repeats them.
const MAX_NAME_BYTES: usize = 64;

/// A tensor as the pickle describes it.
#[derive(Clone, Debug)]
pub(super) struct Pickled {
    /// The storage's kind, as in "FloatStorage".
    pub(super) kind: String,
    /// The storage's name in the archive.
    pub(super) storage: String,
    /// Where it begins in the storage, in values.
    pub(super) offset: u64,
    pub(super) dims: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// The tensors of a pickled dictionary, by name.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, Pickled)>, Fault> {
    let mut machine =
        Machine { bytes, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let top = machine.run()?;
    let Node::Dict(entries) = &machine.nodes[top] else {
        return Err("holds something other than a dictionary of tensors".into());
    };
    let mut out = Vec::with_capacity(entries.len());
    let mut names = HashSet::new();
    for (key, value) in entries {
        let Node::Text(name) = &machine.nodes[*key] else { return Err("has a key that is no text".into()) };
        if !names.insert(name) {
            return Err(format!("holds {:?} twice", crate::error::printable(name)));
        }
        match &machine.nodes[*value] {
            Node::Tensor(tensor) => out.push((name.clone(), tensor.clone())),
            _ => return Err(format!("holds {:?}, which is no tensor", crate::error::printable(name))),
        }
    }
    Ok(out)
}

/// A value. Those within are numbers of other nodes, so that no depth of nesting needs a deep stack.
enum Node {
    /// None, a flag, a float: never looked at.
    Plain,
    Int(i64),
    Text(String),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Code(Code),
    Storage {
        kind: String,
        name: String,
    },
    Tensor(Pickled),
}

/// What a pickle may call.
#[derive(Clone)]
enum Code {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageKind(String),
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u32, usize>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(n);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or("its pickle is cut short")?;
        self.at += n;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn line(&mut self) -> Result<String, Fault> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|b| *b == b'\n').ok_or("its pickle is cut short")?;
        let text = String::from_utf8_lossy(&rest[..n]).into_owned();
        self.at += n + 1;
        Ok(text)
    }

    fn text(&mut self, n: usize) -> Result<(), Fault> {
        let text = std::str::from_utf8(self.take(n)?).map_err(|_| "its pickle holds a text that is not UTF-8")?;
        let node = Node::Text(text.to_owned());
        self.push(node);
        Ok(())
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Result<usize, Fault> {
        // What lies below a mark belongs to someone else.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("its pickle takes a value that is not there".into());
        }
        self.stack.pop().ok_or_else(|| "its pickle takes a value that is not there".into())
    }

    fn top(&self) -> Result<usize, Fault> {
        self.stack.last().copied().ok_or_else(|| "its pickle uses a value that is not there".into())
    }

    /// The values above the last mark.
    fn marked(&mut self) -> Result<Vec<usize>, Fault> {
        let mark = self.marks.pop().ok_or("its pickle uses a mark that is not there")?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, n: usize) -> Result<(), Fault> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn remember(&mut self, key: u32) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), Fault> {
        let node = *self.memo.get(&key).ok_or("its pickle recalls a value that it never kept")?;
        self.stack.push(node);
        Ok(())
    }

    fn put(&mut self, items: &[usize]) -> Result<(), Fault> {
        let top = self.top()?;
        let (Node::Dict(entries), (pairs, [])) = (&mut self.nodes[top], items.as_chunks::<2>()) else {
            return Err("its pickle puts values into what is no dictionary".into());
        };
        entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn run(&mut self) -> Result<usize, Fault> {
        loop {
            let [op] = self.number()?;
            match op {
                0x80 => drop(self.number::<1>()?),
                0x95 => drop(self.number::<8>()?),
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'}' => self.push(Node::Dict(Vec::new())),
                b')' => self.push(Node::Tuple(Vec::new())),
                b'N' | 0x88 | 0x89 => self.push(Node::Plain),
                b'G' => {
                    self.number::<8>()?;
                    self.push(Node::Plain);
                }
                b'K' => {
                    let n = u8::from_le_bytes(self.number()?);
                    self.push(Node::Int(n.into()));
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.number()?);
                    self.push(Node::Int(n.into()));
                }
                b'J' => {
                    let n = i32::from_le_bytes(self.number()?);
                    self.push(Node::Int(n.into()));
                }
                0x8a => self.long()?,
                b'X' => {
                    let n = u32::from_le_bytes(self.number()?);
                    self.text(n as usize)?;
                }
                0x8c => {
                    let [n] = self.number()?;
                    self.text(n.into())?;
                }
                b't' => {
                    let items = self.marked()?;
                    self.push(Node::Tuple(items));
                }
                0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
                b'q' => {
                    let [key] = self.number()?;
                    self.remember(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.number()?);
                    self.remember(key)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' => {
                    let [key] = self.number()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.number()?);
                    self.recall(key)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.put(&[key, value])?;
                }
                b'u' => {
                    let items = self.marked()?;
                    self.put(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.code(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Node::Text(module), Node::Text(name)) = (&self.nodes[module], &self.nodes[name]) else {
                        return Err("its pickle asks for code without a name".into());
                    };
                    let (module, name) = (module.clone(), name.clone());
                    self.code(&module, &name)?;
                }
                b'Q' => self.storage()?,
                b'R' => self.call()?,
                // The attributes of a dictionary: its versions, of no use here.
                b'b' => {
                    self.pop()?;
                    let top = self.top()?;
                    if !matches!(self.nodes[top], Node::Dict(_)) {
                        return Err("its pickle sets the state of what is no dictionary".into());
                    }
                }
                other => return Err(format!("its pickle has the instruction {other:#04x}, which no tensors need")),
            }
        }
    }

    fn long(&mut self) -> Result<(), Fault> {
        let [n] = self.number()?;
        let bytes = self.take(n.into())?;
        if bytes.len() > 8 {
            return Err("its pickle holds a number of more than 64 bits".into());
        }
        let fill = if bytes.last().is_some_and(|b| *b >= 0x80) { 0xff } else { 0 };
        let mut number = [fill; 8];
        number[..bytes.len()].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(number)));
        Ok(())
    }

    fn code(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        let code = match (module, name) {
            ("collections", "OrderedDict") => Code::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Code::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Code::RebuildParameter,
            ("torch", kind) if kind.ends_with("Storage") => Code::StorageKind(kind.to_owned()),
            _ => {
                let asked = crate::error::printable(&format!("{module}.{name}"));
                return Err(format!("its pickle asks for the code {asked}; only tensors are read, and no code is run"));
            }
        };
        self.push(Node::Code(code));
        Ok(())
    }

    fn items(&self, node: usize) -> &[usize] {
        match &self.nodes[node] {
            Node::Tuple(items) => items,
            _ => &[],
        }
    }

    /// ("storage", kind, name, device, values).
    fn storage(&mut self) -> Result<(), Fault> {
        let id = self.pop()?;
        let node = match self.items(id) {
            [_, kind, name, _, _] => match (&self.nodes[*kind], &self.nodes[*name]) {
                (Node::Code(Code::StorageKind(kind)), Node::Text(name))
                    if kind.len().max(name.len()) <= MAX_NAME_BYTES =>
                {
                    Node::Storage { kind: kind.clone(), name: name.clone() }
                }
                _ => return Err("its pickle names a storage in an unknown way".into()),
            },
            _ => return Err("its pickle names a storage in an unknown way".into()),
        };
        self.push(node);
        Ok(())
    }

    fn call(&mut self) -> Result<(), Fault> {
        let (args, code) = (self.pop()?, self.pop()?);
        let Node::Code(code) = &self.nodes[code] else { return Err("its pickle calls what is no code".into()) };
        let args = self.items(args);
        let node = match (code, args) {
            (Code::OrderedDict, []) => Node::Dict(Vec::new()),
            (Code::RebuildTensor, [storage, offset, dims, strides, ..]) => {
                let Node::Storage { kind, name } = &self.nodes[*storage] else {
                    return Err("its pickle makes a tensor of what is no storage".into());
                };
                Node::Tensor(Pickled {
                    kind: kind.clone(),
                    storage: name.clone(),
                    offset: self.count(*offset)?,
                    dims: self.counts(*dims)?,
                    strides: self.counts(*strides)?,
                })
            }
            (Code::RebuildParameter, [tensor, ..]) => match &self.nodes[*tensor] {
                Node::Tensor(tensor) => Node::Tensor(tensor.clone()),
                _ => return Err("its pickle makes a parameter of what is no tensor".into()),
            },
            _ => return Err("its pickle calls for a tensor in an unknown way".into()),
        };
        self.push(node);
        Ok(())
    }

    fn count(&self, node: usize) -> Result<u64, Fault> {
        match self.nodes[node] {
            Node::Int(n) if n >= 0 => Ok(n as u64),
            _ => Err("its pickle has a shape of something other than numbers".into()),
        }
    }

    /// A shape. Its length is limited, so that few bytes cannot ask for many copies of a long one.
    fn counts(&self, node: usize) -> Result<Vec<u64>, Fault> {
        match self.items(node) {
            items if items.len() <= 8 => items.iter().map(|n| self.count(*n)).collect(),
            _ => Err("its pickle has a shape of more than 8 dimensions".into()),
        }
    }
}
