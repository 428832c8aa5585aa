//! Turns the tree of a Go template into minijinja source.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Library, Note, Target, Translated,
    ast::{Body, Branches, Node, Operand, Pipe, Range, What},
    code::Code,
    frame::{Frame, Place},
    macros::{self, MACROS_MAX, Macros},
    types::Type,
};

/// Longest translation, in bytes; the router's own limit for a template is lower.
const OUTPUT_BYTES_MAX: usize = 512 * 1024;
/// Most blocks inside each other that an `else if` with a variable may make: minijinja nests no deeper than 150.
const CHAIN_MAX: usize = 24;
/// Most conditions of one `if`: minijinja goes down its stack for each.
const BRANCHES_MAX: usize = 100;
/// Most rounds for the types of variables: each makes at least one of them wider.
const ROUNDS_MAX: usize = 8;
/// Most templates that only call another before the one that says something.
const WRAPPERS_MAX: usize = 8;

/// What a body became.
struct Done {
    source: String,
    notes: Vec<Note>,
    calls: BTreeSet<usize>,
}

/// Translates `body` and all that it calls in `library`.
pub(super) fn translate<'a>(
    library: &'a Library,
    body: &'a Body,
    place: Place<'a>,
    target: Target,
) -> Translated {
    let (body, place) = unwrapped(library, body, place);
    let mut macros = Macros::new(library.names());
    let main = one(library, body, place, target, &mut macros, None);
    let mut bytes = main.source.len();
    let mut notes = main.notes;
    if bytes > OUTPUT_BYTES_MAX {
        notes.push(Note::too_long(place));
    }
    let mut waiting: Vec<usize> = main.calls.into_iter().collect();
    let mut seen: BTreeSet<usize> = waiting.iter().copied().collect();
    let mut written = Vec::new();
    while let Some(number) = waiting.pop() {
        let (template, dot) = macros.key(number);
        let (Some((body, place)), dot) = (library.definition(template), dot.clone()) else { continue };
        let name = macros.name(number);
        let parameter = macros.parameter(&dot);
        let code = match dot {
            Type::Root => root(),
            Type::Nil => Code::path("none", Type::Nil),
            dot => Code::path(&parameter[..], dot),
        };
        let done = one(library, body, place, target, &mut macros, Some(code));
        let new = done.calls.into_iter().filter(|call| seen.insert(*call));
        waiting.extend(new.collect::<Vec<_>>());
        notes.extend(done.notes);
        bytes += done.source.len();
        if bytes > OUTPUT_BYTES_MAX {
            notes.push(Note::too_long(place));
            break;
        }
        written.push(format!("{{% macro {name}({parameter}) %}}{}{{% endmacro", done.source));
    }
    notes.sort();
    notes.dedup();
    Translated { source: assemble(written, &main.source), notes }
}

/// Macros, the called ones first, and then the text: line breaks between them, but none that would show.
fn assemble(mut written: Vec<String>, main: &str) -> String {
    written.reverse();
    let last = written.len().saturating_sub(1);
    let trims = !main.is_empty() && !main.starts_with(char::is_whitespace);
    let mut source = String::new();
    for (number, text) in written.iter().enumerate() {
        source.push_str(text);
        source.push_str(if number < last || trims { " -%}\n" } else { " %}" });
    }
    source + main
}

fn root() -> Code {
    Code::path("root", Type::Root)
}

/// The body itself, or the one that it only calls with its own dot.
fn unwrapped<'a>(library: &'a Library, body: &'a Body, place: Place<'a>) -> (&'a Body, Place<'a>) {
    let mut found = (body, place);
    for _ in 0..WRAPPERS_MAX {
        let [Node::Template { name, pipe: Some(pipe), .. }] = &found.0.nodes[..] else { break };
        let ([command], []) = (&pipe.commands[..], &pipe.targets[..]) else { break };
        let [Operand { what: What::Dot | What::Variable(0), chain, .. }] = &command[..] else { break };
        match library.definition(name) {
            Some(inner) if chain.is_empty() => found = inner,
            _ => break,
        }
    }
    found
}

/// Translates one body, a macro's if there is a dot for it, again while assignments widen the types of its variables.
fn one<'a>(
    library: &'a Library,
    body: &'a Body,
    place: Place<'a>,
    target: Target,
    macros: &mut Macros,
    dot: Option<Code>,
) -> Done {
    let is_macro = dot.is_some();
    let dot = dot.unwrap_or_else(root);
    let mut widened = BTreeMap::new();
    let mut round = 0;
    loop {
        let mut frame = Frame::new(body, place, target, macros, dot.clone(), widened);
        if frame.variable_use(0).0 {
            // Somebody gives `$` another value, which the dot does not have.
            frame.declare(0, dot.clone());
        }
        frame.nodes(library, &body.nodes);
        round += 1;
        if frame.changed && round == ROUNDS_MAX {
            let what = "its variables change their types too often to follow";
            frame.approximate(0, what, "use a variable of its own for each kind of value");
        }
        if !frame.changed || round == ROUNDS_MAX {
            return Done { source: frame.writer.finish(is_macro), notes: frame.notes, calls: frame.calls };
        }
        widened = frame.widened();
    }
}

impl Frame<'_> {
    fn nodes(&mut self, library: &Library, nodes: &[Node]) {
        let mut guarded = false;
        for (position, node) in nodes.iter().enumerate() {
            if self.writer.len() > OUTPUT_BYTES_MAX {
                break;
            }
            self.node(library, node);
            let flow = self.loops.last().cloned().flatten();
            let (Some(flow), true) = (flow, jumps(std::slice::from_ref(node))) else { continue };
            // Once the loop is left, nothing more of it is said.
            if std::mem::take(&mut guarded) {
                self.writer.tag("endif");
            }
            if position + 1 < nodes.len() {
                self.writer.tag(&format!("if not {flow}.skip"));
                guarded = true;
            }
        }
        if guarded {
            self.writer.tag("endif");
        }
    }

    fn node(&mut self, library: &Library, node: &Node) {
        match node {
            Node::Text { text } => self.text(text),
            Node::Action { pipe } => {
                let value = self.set(pipe);
                if pipe.targets.is_empty() {
                    self.print(pipe.at, value);
                }
            }
            Node::If(branches) => self.branches(library, branches, false),
            Node::With(branches) => self.branches(library, branches, true),
            Node::Range(range) => self.scoped(|frame| frame.range(library, range)),
            Node::Template { at, name, pipe } => self.template(library, *at, name, pipe.as_ref()),
            Node::Break => self.jump("stop"),
            Node::Continue => self.jump("skip"),
        }
    }

    fn branches(&mut self, library: &Library, branches: &Branches, with: bool) {
        let mut open = 0;
        for (position, (pipe, nodes)) in branches.branches.iter().enumerate() {
            if open == CHAIN_MAX || position == BRANCHES_MAX {
                self.impossible(
                    pipe.at,
                    "too many conditions follow each other".into(),
                    "split the template",
                );
                break;
            }
            let first = position == 0;
            let chained = !first && !with && pipe.targets.is_empty();
            if !first && !chained {
                self.writer.tag("else");
            }
            let value = self.set(pipe);
            let dot = if with { self.hold(value.clone()) } else { value };
            let word = if chained { "elif" } else { "if" };
            let condition = if dot.kind.is_always_true() { "true" } else { &dot.text };
            self.writer.tag(&format!("{word} {condition}"));
            open += usize::from(!chained);
            if with {
                self.with_dot(Code { missing: false, ..dot }, |frame| frame.nodes(library, nodes));
            } else {
                self.nodes(library, nodes);
            }
        }
        if let Some(nodes) = &branches.otherwise {
            self.writer.tag("else");
            self.nodes(library, nodes);
        }
        for _ in 0..open {
            self.writer.tag("endif");
        }
    }

    /// A name for the value, unless it has one.
    fn hold(&mut self, value: Code) -> Code {
        if value.is_name() {
            return value;
        }
        let value = value.solid();
        let name = self.fresh(value.kind.name());
        self.writer.tag(&format!("set {name} = {}", value.text));
        Code::path(name, value.kind)
    }

    fn range(&mut self, library: &Library, range: &Range) {
        let value = self.value(&range.pipe).solid();
        let Some(element) = value.kind.element() else {
            let what = format!("`range` cannot go through {}", value.kind.shown());
            self.impossible(range.pipe.at, what, "Alertmanager fails on it, too");
            return;
        };
        let flow = range.jumps.then(|| self.fresh("flow"));
        if let Some(flow) = &flow {
            self.writer.tag(&format!("set {flow} = namespace(stop=false, skip=false)"));
        }
        let targets = &range.pipe.targets[..];
        let (key_target, target) = match targets {
            [key, element] => (Some(*key), Some(*element)),
            [element] => (None, Some(*element)),
            _ => (None, None),
        };
        let name = self.loop_name(target, range.pipe.declares, &element);
        let code = Code::path(&name[..], element);
        let key = match &value.kind {
            Type::Labels | Type::Dictionary(_) | Type::Unknown => {
                let known = value.kind != Type::Unknown;
                let filter = if known { "dictsort(case_sensitive=true)" } else { "entries" };
                let kind = if known { Type::Text } else { Type::Unknown };
                let key = self.loop_name(key_target, range.pipe.declares, &Type::Text);
                self.writer.tag(&format!("for {key}, {name} in {} | {filter}", value.tight()));
                if !known {
                    let what = "whether this is a list or a map is known only when the template runs";
                    self.approximate(range.pipe.at, what, "check the text that it gives");
                }
                Code::path(key, kind)
            }
            Type::Integer => {
                self.writer.tag(&format!("for {name} in range({})", value.text));
                Code::atom("loop.index0", Type::Integer)
            }
            _ => {
                self.writer.tag(&format!("for {name} in {}", value.text));
                Code::atom("loop.index0", Type::Integer)
            }
        };
        if let Some(flow) = &flow {
            self.writer.tag(&format!("set {flow}.skip = {flow}.stop"));
            self.writer.tag(&format!("if not {flow}.skip"));
        }
        for (target, code) in [(key_target, key), (target, code.clone())] {
            match target {
                Some(target) if range.pipe.declares => drop(self.declare(target, code)),
                Some(target) => drop(self.assign(target, code)),
                None => {}
            }
        }
        self.loops.push(flow.clone());
        self.with_dot(code, |frame| frame.nodes(library, &range.body));
        self.loops.pop();
        if flow.is_some() {
            self.writer.tag("endif");
        }
        if let Some(nodes) = &range.otherwise {
            self.writer.tag("else");
            self.nodes(library, nodes);
        }
        self.writer.tag("endfor");
    }

    /// What a loop calls its element or key: as the template does, if that never changes.
    fn loop_name(&mut self, target: Option<usize>, declares: bool, kind: &Type) -> String {
        match target {
            Some(target) if declares && self.variable_use(target) == (false, true) => {
                self.variable_name(target)
            }
            _ => self.fresh(kind.name()),
        }
    }

    fn jump(&mut self, how: &str) {
        let Some(flow) = self.loops.last().cloned().flatten() else { return };
        if how == "stop" {
            self.writer.tag(&format!("set {flow}.stop = true"));
        }
        self.writer.tag(&format!("set {flow}.skip = true"));
    }

    fn template(&mut self, library: &Library, at: usize, name: &str, pipe: Option<&Pipe>) {
        let value = match pipe {
            Some(pipe) => self.set(pipe).solid(),
            None => Code::atom("none", Type::Nil),
        };
        if library.definition(name).is_none() {
            let what = format!("no template is called {name:?}");
            self.impossible(at, what, "add the file that defines it");
            return;
        }
        let Some(number) = self.macros.number(name, &value.kind) else {
            let what = format!("more than {MACROS_MAX} templates are called");
            self.impossible(at, what, "split the template");
            return;
        };
        self.calls.insert(number);
        let argument = if macros::takes_dot(&value.kind) { &value.text[..] } else { "" };
        let call = format!("{}({argument})", self.macros.name(number));
        self.writer.print(&call);
    }
}

/// Whether a `break` or `continue` among the nodes leaves the loop around them.
fn jumps(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match node {
        Node::Break | Node::Continue => true,
        Node::If(branches) | Node::With(branches) => {
            let otherwise = branches.otherwise.as_deref().unwrap_or_default();
            branches.branches.iter().any(|(_, nodes)| jumps(nodes)) || jumps(otherwise)
        }
        Node::Range(range) => jumps(range.otherwise.as_deref().unwrap_or_default()),
        _ => false,
    })
}
