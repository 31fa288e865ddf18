use super::*;
impl ToolFormat {
    pub(crate) fn forced(
        self,
        _: &[Value],
        _: &crate::ToolChoice,
        _: bool,
        _: impl Fn(&str) -> bool,
    ) -> crate::Result<crate::Constraint> {
        Err(crate::Error::Stopped)
    }
    pub(crate) fn forbidden(self, _: impl Fn(&str) -> bool) -> Vec<&'static str> {
        Vec::new()
    }
}
pub(crate) fn told(_: ToolFormat, _: &[Value]) -> String {
    String::new()
}
pub(crate) fn translate(messages: &[nano_templates::Message], _: ToolFormat) -> Vec<nano_templates::Message> {
    messages.to_vec()
}
