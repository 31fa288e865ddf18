//! What a file that is no model looks like, for the error that says so.

/// Describes the first bytes of a file that is not GGUF, and what to do about it.
pub(super) fn looks_like(bytes: &[u8]) -> String {
    let starts = |prefix: &[u8]| bytes.starts_with(prefix);
    let text = || bytes.iter().take(64).all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e));
    let what = if starts(b"FUGG") {
        "looks like big-endian GGUF, which is not supported"
    } else if starts(b"version https://git-lfs") {
        "is a Git LFS pointer, not the model itself; fetch it with `git lfs pull`"
    } else if starts(b"PK\x03\x04") || starts(b"\x80\x02") {
        "looks like a PyTorch file; give the folder that holds it and its config.json"
    } else if bytes.get(8) == Some(&b'{') {
        "looks like safetensors; give the folder that holds it and its config.json"
    } else if [&b"lmgg"[..], b"tjgg", b"fmgg", b"algg", b"ggml", b"ggjt", b"ggmf"].iter().any(|m| starts(m)) {
        "is in an old GGML format; convert the model again, to GGUF"
    } else if starts(b"\x89HDF") {
        "looks like HDF5; convert it to safetensors or GGUF"
    } else if starts(b"<") && text() {
        "looks like a web page; the download went wrong"
    } else if starts(b"{") && text() {
        "looks like JSON; give the folder that holds it"
    } else if bytes.iter().take(64).all(|b| *b == 0) {
        "begins with zeros; the download or copy went wrong"
    } else if text() {
        "looks like text"
    } else {
        let head: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
        return format!("is not a GGUF file: it begins with {} where \"GGUF\" is needed", head.join(" "));
    };
    format!("is not a GGUF file: it {what}")
}
