//! What a setting of a rule says: text with fields in it.

use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use ams2_handlers::render::filters;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context, value::merge_maps};

use super::fields::{Fields, Path};

/// Most steps that one text may take: of a batch there are thousands.
const FUEL: u64 = 20_000;
/// Longest text of a setting, in bytes.
const SOURCE_BYTES_MAX: usize = 8 << 10;
/// Deepest nesting of an expression.
const DEPTH_MAX: usize = 32;
const NAME: &str = "text";
/// The name of all that came in.
const ROOT: &str = "root";

/// Text with `{{ field }}` in it. Several fields joined by `or` stand for the first that has a text; where it has more than that
/// in it, such as filters, it is an expression of a template. What is not there is empty.
#[derive(Clone)]
pub struct Text(Parts);

#[derive(Clone)]
enum Parts {
    /// Fields and words, which cost nothing to read.
    Plain(Vec<Part>),
    /// Expressions.
    Template(Arc<Expression>),
}

/// A text that computes.
struct Expression {
    environment: Environment<'static>,
    /// The first words of the fields that it names.
    names: BTreeSet<String>,
}

#[derive(Clone, Debug)]
enum Part {
    Words(String),
    /// The first of these that has a text.
    FirstOf(Vec<Path>),
}

/// Why a text is no such text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(String);

impl Text {
    /// Reads one.
    ///
    /// # Errors
    /// Wrong syntax, filters that there are not, statements.
    pub fn parse(source: &str) -> Result<Text, TextError> {
        if source.len() > SOURCE_BYTES_MAX {
            let bytes = source.len();
            return Err(TextError(format!(
                "a text of {bytes} bytes; at most {SOURCE_BYTES_MAX} are allowed"
            )));
        }
        if source.contains("{%") {
            let why = "statements (`{% … %}`) are not allowed here: `{{ a if b else c }}` chooses";
            return Err(TextError(why.into()));
        }
        match plain(source) {
            Some(parts) => Ok(Text(Parts::Plain(parts))),
            None => template(source).map(|expression| Text(Parts::Template(Arc::new(expression)))),
        }
    }

    /// What it says of what came in; empty where that cannot be said.
    pub fn of(&self, fields: &dyn Fields) -> String {
        let root = OnceCell::new();
        self.read(&Seen::new(&[], fields, fields, &root)).unwrap_or_default().into_owned()
    }

    /// The first words of the fields that it names; none where it always says the same.
    pub fn names(&self) -> BTreeSet<String> {
        match &self.0 {
            Parts::Plain(parts) => {
                let paths = parts.iter().flat_map(|part| match part {
                    Part::Words(_) => &[][..],
                    Part::FirstOf(paths) => paths,
                });
                paths.filter_map(|path| path.steps().first().map(|step| step.to_string())).collect()
            }
            Parts::Template(expression) => expression.names.clone(),
        }
    }

    /// What it says of a record.
    ///
    /// # Errors
    /// What an expression could not do, in words.
    pub(super) fn read<'r>(&'r self, seen: &Seen<'r>) -> Result<Cow<'r, str>, String> {
        match &self.0 {
            Parts::Plain(parts) => match &parts[..] {
                [Part::Words(words)] => Ok(Cow::Borrowed(words)),
                [Part::FirstOf(paths)] => Ok(seen.first_of(paths)),
                parts => Ok(Cow::Owned(parts.iter().fold(String::new(), |mut text, part| {
                    match part {
                        Part::Words(words) => text.push_str(words),
                        Part::FirstOf(paths) => text.push_str(&seen.first_of(paths)),
                    }
                    text
                }))),
            },
            Parts::Template(expression) => expression
                .environment
                .get_template(NAME)
                .and_then(|template| template.render(seen.context(&expression.names)))
                .map(Cow::Owned)
                .map_err(|error| error.to_string()),
        }
    }
}

/// Shows what it was read from, as far as that is known.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Parts::Plain(parts) => f.debug_list().entries(parts).finish(),
            Parts::Template(expression) => {
                let source =
                    expression.environment.get_template(NAME).map(|template| template.source().to_owned());
                f.write_str(&source.unwrap_or_default())
            }
        }
    }
}

/// What a text sees: what a rule captured, the item that the alert is about, and all of the record as `root`.
pub(super) struct Seen<'r> {
    pub(super) captured: &'r [(&'r str, &'r str)],
    pub(super) item: &'r dyn Fields,
    pub(super) root: &'r dyn Fields,
    /// The item, and all of the record, for expressions: made once, and only where one names something of it.
    whole: OnceCell<Value>,
    whole_root: &'r OnceCell<Value>,
}

impl<'r> Seen<'r> {
    pub(super) fn new(
        captured: &'r [(&'r str, &'r str)],
        item: &'r dyn Fields,
        root: &'r dyn Fields,
        whole_root: &'r OnceCell<Value>,
    ) -> Seen<'r> {
        Seen { captured, item, root, whole: OnceCell::new(), whole_root }
    }

    fn first_of(&self, paths: &[Path]) -> Cow<'r, str> {
        paths.iter().find_map(|path| self.field(path).filter(|text| !text.is_empty())).unwrap_or_default()
    }

    pub(super) fn field(&self, path: &Path) -> Option<Cow<'r, str>> {
        match path.steps() {
            [name] if let Some((_, text)) = self.captured.iter().find(|(known, _)| known == name) => {
                Some(Cow::Borrowed(text))
            }
            [first, rest @ ..] if first == ROOT && !rest.is_empty() => self.root.text(rest),
            steps => self.item.text(steps),
        }
    }

    /// At most so many fields below a path, and how many more there are.
    pub(super) fn below(&self, path: &Path, most: usize) -> (Vec<(smol_str::SmolStr, Cow<'r, str>)>, usize) {
        match path.steps() {
            [first, rest @ ..] if first == ROOT => self.root.some_below(rest, most),
            steps => self.item.some_below(steps, most),
        }
    }

    /// What an expression sees that names these.
    fn context(&self, names: &BTreeSet<String>) -> Value {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), Value::from(*text));
        let captured: BTreeMap<String, Value> = self.captured.iter().map(owned).collect();
        let names_root = names.contains(ROOT);
        let names_item = names.iter().any(|name| name != ROOT && !captured.contains_key(name));
        let item = names_item.then(|| self.whole.get_or_init(|| self.item.whole()).clone());
        let root = names_root.then(|| self.whole_root.get_or_init(|| self.root.whole()).clone());
        // Whoever stands last counts.
        let parts = [item, Some(Value::from(captured)), root.map(|root| context! { root => root })];
        merge_maps(parts.into_iter().flatten())
    }
}

/// Fields and words, if there is nothing else in it.
fn plain(source: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((words, behind)) = rest.split_once("{{") {
        if !words.is_empty() {
            parts.push(Part::Words(words.into()));
        }
        let (within, behind) = behind.split_once("}}")?;
        parts.push(Part::FirstOf(first_of(within)?));
        rest = behind;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Words(rest.into()));
    }
    let is_comment = |part: &Part| matches!(part, Part::Words(words) if words.contains("{#"));
    (!parts.iter().any(is_comment)).then_some(parts)
}

/// `a.b or c`.
fn first_of(expression: &str) -> Option<Vec<Path>> {
    let mut paths = Vec::new();
    let mut rest = expression.trim();
    loop {
        let (path, behind) = Path::take(rest)?;
        paths.push(path);
        let behind = behind.trim_start();
        if behind.is_empty() {
            return Some(paths);
        }
        rest = behind.strip_prefix("or ")?.trim_start();
    }
}

/// A text, or a number, as one part of a path (RFC 3986 section 2.3).
fn percent_encoded(value: &Value) -> String {
    let text = if value.is_none() || value.is_undefined() { String::new() } else { value.to_string() };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn template(source: &str) -> Result<Expression, TextError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH_MAX);
    environment.remove_global("debug");
    environment.remove_global("range");
    filters::add(&mut environment);
    environment.add_filter("urlencode", percent_encoded);
    environment
        .add_template_owned(NAME, source.to_owned())
        .map_err(|error| TextError(error.detail().unwrap_or("it is no template").to_owned()))?;
    let names = environment.get_template(NAME).map(|template| template.undeclared_variables(false));
    let names = names.unwrap_or_default().into_iter();
    let names = names.filter(|name| !environment.globals().any(|(global, _)| global == name)).collect();
    // What there is not shows where it is used; that there is nothing to work on is no mistake.
    let tried = environment.get_template(NAME).and_then(|template| template.render(()));
    match tried {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction
            ) =>
        {
            Err(TextError(error.to_string()))
        }
        _ => Ok(Expression { environment, names }),
    }
}
