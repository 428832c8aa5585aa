//! Reads the pipelines of a Go template: values, function calls and the variables that they set.

use super::{
    Mistake,
    ast::{Command, Operand, Pipe, Variable, What},
    functions,
    lex::Kind,
    parse::Parser,
};

/// Most values and functions of one action: the engine goes down its stack for each.
const OPERANDS_MAX: usize = 300;
/// Most variables of one body.
const VARIABLES_MAX: usize = 1000;

impl Parser<'_> {
    /// A pipeline that may set as many as `targets` variables.
    pub(super) fn pipeline(&mut self, context: &str, targets: usize) -> Result<Pipe, Mistake> {
        self.operands = 0;
        self.inner_pipeline(context, targets)
    }

    fn inner_pipeline(&mut self, context: &str, targets: usize) -> Result<Pipe, Mistake> {
        self.skip_space();
        let at = self.at();
        let (targets, declares) = self.targets(targets)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            let start = self.at();
            let command = self.command()?;
            match command.first() {
                None => return Err(Mistake::at(self.source, start, format!("{context} lacks a value"))),
                Some(first) if !commands.is_empty() && is_plain(first) => {
                    return Err(Mistake::at(self.source, start, "only a function or method can follow `|`"));
                }
                Some(Operand { what: What::Nil, .. }) => {
                    return Err(Mistake::at(self.source, start, "`nil` can only be an argument"));
                }
                Some(_) => commands.push(command),
            }
            match self.peek() {
                Kind::Pipe => self.next(),
                Kind::Close | Kind::Right => break,
                other => return Err(self.mistake(format!("{} is not expected here", other.shown()))),
            };
        }
        if declares {
            self.scope().visible.extend(&targets);
        }
        Ok(Pipe { at, targets, declares, commands })
    }

    /// `$x :=`, `$x =`, `$i, $x :=`, or nothing.
    fn targets(&mut self, most: usize) -> Result<(Vec<usize>, bool), Mistake> {
        let start = self.position;
        let mut names = Vec::new();
        while names.len() < most {
            let Kind::Variable(name) = self.peek().clone() else { break };
            let at = self.at();
            self.next();
            names.push((at, name));
            self.skip_space();
            match self.peek() {
                Kind::Comma if names.len() < most => {
                    self.next();
                    self.skip_space();
                }
                Kind::Declare | Kind::Assign => {
                    let declares = self.next() == Kind::Declare;
                    let targets = names.iter().map(|(at, name)| self.target(*at, name, declares));
                    return Ok((targets.collect::<Result<_, _>>()?, declares));
                }
                _ => break,
            }
        }
        self.position = start;
        Ok((Vec::new(), false))
    }

    fn target(&mut self, at: usize, name: &str, declares: bool) -> Result<usize, Mistake> {
        if !declares {
            let number = self.variable(at, name)?;
            self.scope().variables[number].assigned = true;
            return Ok(number);
        }
        let number = self.scope().variables.len();
        if number == VARIABLES_MAX {
            return Err(self.mistake(format!("there are more than {VARIABLES_MAX} variables")));
        }
        let variable = Variable { name: name.to_owned(), assigned: false, read: false };
        self.scope().variables.push(variable);
        Ok(number)
    }

    fn variable(&mut self, at: usize, name: &str) -> Result<usize, Mistake> {
        let scope = self.scopes.last().expect("the file's scope stays");
        let mut visible = scope.visible.iter().rev();
        let found = visible.find(|number| scope.variables[**number].name == name).copied();
        found.ok_or_else(|| {
            let mistake = Mistake::at(self.source, at, format!("no variable `${name}` is declared here"));
            mistake.mend(format!("declare it with `${name} := …` in this block or around it"))
        })
    }

    fn command(&mut self) -> Result<Command, Mistake> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            match self.operand()? {
                Some(operand) => operands.push(operand),
                None => return Ok(operands),
            }
            match self.peek() {
                Kind::Space | Kind::Pipe | Kind::Close | Kind::Right => {}
                other => return Err(self.mistake(format!("{} is not expected here", other.shown()))),
            }
        }
    }

    fn part(&mut self) -> Result<(), Mistake> {
        self.operands += 1;
        if self.operands > OPERANDS_MAX {
            return Err(self.mistake(format!("an action has more than {OPERANDS_MAX} parts")));
        }
        self.count()
    }

    fn operand(&mut self) -> Result<Option<Operand>, Mistake> {
        let at = self.at();
        let mut chain = Vec::new();
        let mut chains = true;
        let what = match self.peek().clone() {
            Kind::Dot => What::Dot,
            Kind::Field(name) => {
                chain.push(name);
                What::Dot
            }
            Kind::Variable(name) => {
                let number = self.variable(at, &name)?;
                self.scope().variables[number].read = true;
                What::Variable(number)
            }
            Kind::Word(word) if word == "nil" => What::Nil,
            Kind::Word(word) if functions::is_known(&word) => What::Function(word),
            Kind::Word(word) => return Err(self.mistake(format!("no function is called `{word}`"))),
            Kind::Left => {
                self.next();
                let pipe = self.deeper(|parser| parser.inner_pipeline("the parenthesis", 0))?;
                if *self.peek() != Kind::Right {
                    return Err(self.mistake(format!("{} is not expected here", self.peek().shown())));
                }
                What::Pipe(Box::new(pipe))
            }
            other => {
                chains = false;
                match other {
                    Kind::Bool(value) => What::Bool(value),
                    Kind::Integer(value) => What::Integer(value),
                    Kind::Float(value) => What::Float(value),
                    Kind::Quoted(text) => What::Text(text),
                    _ => return Ok(None),
                }
            }
        };
        self.next();
        self.part()?;
        while let (true, Kind::Field(name)) = (chains, self.peek().clone()) {
            self.next();
            self.part()?;
            chain.push(name);
        }
        Ok(Some(Operand { at, what, chain }))
    }
}

/// Whether it can never take what a pipeline hands over.
fn is_plain(operand: &Operand) -> bool {
    match operand.what {
        What::Dot => operand.chain.is_empty(),
        What::Nil | What::Bool(_) | What::Integer(_) | What::Float(_) | What::Text(_) => true,
        What::Variable(_) | What::Function(_) | What::Pipe(_) => false,
    }
}
