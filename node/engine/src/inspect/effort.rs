//! What a function costs to check and to compile beyond its size: values that live on across many blocks, and values
//! that many blocks and calls pass on.
//!
//! An optimising compiler may give every block a parameter for every local, and does give it one for every value that
//! the block takes. Both are products, of which a small function can have a large one.

use wasmparser::{BlockType, FuncType, FunctionBody, Operator};

use super::shape::{Shape, ShapeError, bound_wide};

/// Functions with fewer locals are not counted through: their size bounds the product well enough.
const LOCALS_FREE: u64 = 64;
/// Types with fewer values are as good as none.
const VALUES_FREE: usize = 16;
/// Of one function. The largest interpreter loops measured have some 300 locals in 5,000 blocks.
const LOCALS_TIMES_BLOCKS_MAX: u64 = 10_000_000;
/// Of one function.
const VALUES_PASSED_MAX: u64 = 1_000_000;

/// True if blocks of one of these types may take or give many values.
pub(super) fn has_wide(types: &[FuncType]) -> bool {
    types.iter().any(|ty| width(ty) > VALUES_FREE)
}

/// Refuses a body, of a function with so many locals and parameters, that costs too much.
pub(super) fn check(body: &FunctionBody<'_>, locals: u64, shape: &Shape<'_>) -> Result<(), ShapeError> {
    if locals < LOCALS_FREE && !shape.has_wide_types {
        return Ok(());
    }
    let (mut blocks, mut values) = (0_u64, 0_u64);
    for operator in body.get_operators_reader()? {
        let (ty, is_block) = match operator? {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => match blockty {
                BlockType::FuncType(index) => (shape.types.get(index as usize), true),
                _ => (None, true),
            },
            // Where one goes on is a block as well.
            Operator::Else | Operator::BrIf { .. } | Operator::BrTable { .. } => (None, true),
            Operator::Call { function_index } => (shape.function(function_index), false),
            Operator::CallIndirect { type_index, .. } => (shape.types.get(type_index as usize), false),
            _ => continue,
        };
        blocks += u64::from(is_block);
        // Narrow ones cost as much as any other instruction.
        values += ty.map(width).filter(|values| *values > VALUES_FREE).unwrap_or(0) as u64;
    }
    bound_wide("locals times blocks in one function", blocks.saturating_mul(locals), LOCALS_TIMES_BLOCKS_MAX)?;
    bound_wide("values that blocks and calls pass on in one function", values, VALUES_PASSED_MAX)
}

fn width(ty: &FuncType) -> usize {
    ty.params().len() + ty.results().len()
}
