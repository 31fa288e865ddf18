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
