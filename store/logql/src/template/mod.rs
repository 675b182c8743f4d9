//! Go templates: for now literal text and `{{.name}}`; anything else is refused.

/// What a template sees.
pub(crate) trait Context {
    fn label(&self, name: &str) -> Option<&str>;
    fn labels(&self) -> Vec<(&str, &str)>;
    fn line(&self) -> &str;
    fn timestamp(&self) -> i64;
}

/// A parsed template.
pub(crate) struct Template {
    pieces: Vec<(String, Option<String>)>,
}

impl Template {
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, tail) = after.split_once("}}").ok_or("unclosed action")?;
            let field = action
                .trim()
                .strip_prefix('.')
                .filter(|field| crate::syntax::is_label_name(field));
            let field =
                field.ok_or_else(|| format!("template: {name}:1: {{{{{action}}}}} is not supported yet"))?;
            pieces.push((before.to_owned(), Some(field.to_owned())));
            rest = tail;
        }
        pieces.push((rest.to_owned(), None));
        Ok(Self { pieces })
    }

    pub(crate) fn execute(&self, context: &dyn Context, out: &mut String) -> Result<(), String> {
        for (text, field) in &self.pieces {
            out.push_str(text);
            if let Some(field) = field {
                out.push_str(context.label(field).unwrap_or(""));
            }
        }
        Ok(())
    }
}
