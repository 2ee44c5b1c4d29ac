//! What constant expressions of 32 bits come to, before there is an instance to ask.

use wasmparser::{BinaryReaderError, ConstExpr, ImportSectionReader, Operator, TypeRef};

/// The globals of a module as far as constants tell what they begin with.
#[derive(Debug, Default)]
pub(super) struct Constants {
    /// By their numbers; none where it is no i32, or the host's to say.
    globals: Vec<Option<i32>>,
}

impl Constants {
    /// Counts the globals that are imported, which come first.
    pub(super) fn add_imports(&mut self, section: ImportSectionReader<'_>) -> Result<(), BinaryReaderError> {
        for import in section.into_imports() {
            if matches!(import?.ty, TypeRef::Global(_)) {
                self.globals.push(None);
            }
        }
        Ok(())
    }

    /// The next global begins with this.
    pub(super) fn add(&mut self, first: &ConstExpr<'_>) -> Result<(), BinaryReaderError> {
        let value = self.evaluate(first)?;
        self.globals.push(value);
        Ok(())
    }

    /// The address that an expression comes to; none if constants do not tell.
    pub(super) fn value(&self, expression: &ConstExpr<'_>) -> Result<Option<u32>, BinaryReaderError> {
        Ok(self.evaluate(expression)?.map(i32::cast_unsigned))
    }

    fn evaluate(&self, expression: &ConstExpr<'_>) -> Result<Option<i32>, BinaryReaderError> {
        let mut stack = Vec::new();
        for operator in expression.get_operators_reader() {
            let value = match operator? {
                Operator::End => break,
                Operator::I32Const { value } => Some(value),
                Operator::GlobalGet { global_index } => self.globals.get(global_index as usize).copied().flatten(),
                Operator::I32Add => of_two(&mut stack, i32::wrapping_add),
                Operator::I32Sub => of_two(&mut stack, i32::wrapping_sub),
                Operator::I32Mul => of_two(&mut stack, i32::wrapping_mul),
                _ => None,
            };
            let Some(value) = value else { return Ok(None) };
            stack.push(value);
        }
        Ok(stack.pop())
    }
}

fn of_two(stack: &mut Vec<i32>, work: fn(i32, i32) -> i32) -> Option<i32> {
    let (second, first) = (stack.pop()?, stack.pop()?);
    Some(work(first, second))
}
