//! How much of the cache fits into memory beside a model's weights.

use nano_kernels::PAGE_ROWS;
use nano_models::Plan;

/// What fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Tokens that one sequence may hold.
    pub(crate) context: usize,
    /// Pages for all sequences.
    pub(crate) pages: usize,
}

/// Room for `sequences` sequences of `context` tokens, or for as much of it as fits into `budget` bytes; an error with
/// the bytes needed if nothing does.
pub(crate) fn fit(plan: &Plan, context: usize, sequences: usize, budget: u64) -> Result<Fit, u64> {
    let fixed = plan.weights_bytes.saturating_add(plan.workspace_bytes);
    let free = budget.saturating_sub(fixed) / plan.page_bytes.max(1);
    if free == 0 {
        return Err(fixed.saturating_add(plan.page_bytes));
    }
    let wanted = context.div_ceil(PAGE_ROWS).saturating_mul(sequences.max(1));
    // Slots are numbered in 32 bits.
    let pages = wanted.min(free.min(u64::from(u32::MAX) / PAGE_ROWS as u64 - 1) as usize);
    Ok(Fit { context: context.min(pages * PAGE_ROWS), pages })
}

/// Bytes that this process may still take, where the system tells: of its memory, and of what a container grants.
pub(crate) fn available() -> Option<u64> {
    let granted = || {
        let number = |file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let most = number("/sys/fs/cgroup/memory.max")?;
        Some(most.saturating_sub(number("/sys/fs/cgroup/memory.current")?))
    };
    let system = || {
        let table = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    [granted(), system()].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan =
        Plan { weights_bytes: 1000, page_bytes: 10, workspace_bytes: 100, loading_bytes: 1000, converted_bytes: 0 };

    #[test]
    fn takes_what_is_wanted_if_it_fits() {
        assert_eq!(fit(&PLAN, 64, 3, 10_000), Ok(Fit { context: 64, pages: 6 }));
        assert_eq!(fit(&PLAN, 65, 1, 10_000), Ok(Fit { context: 65, pages: 3 }));
    }

    #[test]
    fn first_other_sequences_give_way_and_then_the_context() {
        assert_eq!(fit(&PLAN, 64, 3, 1_145), Ok(Fit { context: 64, pages: 4 }));
        assert_eq!(fit(&PLAN, 640, 3, 1_145), Ok(Fit { context: 128, pages: 4 }));
    }

    #[test]
    fn says_what_is_needed_if_nothing_fits() {
        assert_eq!(fit(&PLAN, 64, 1, 1_109), Err(1_110));
        assert_eq!(fit(&PLAN, 64, 1, 0), Err(1_110));
    }

    #[test]
    fn absurd_wishes_do_not_overflow() {
        let free = Plan { weights_bytes: 0, page_bytes: 0, workspace_bytes: 0, loading_bytes: 0, converted_bytes: 0 };
        let fit = fit(&free, usize::MAX, usize::MAX, u64::MAX).unwrap();
        assert!(fit.pages < (u32::MAX as usize) / PAGE_ROWS);
    }
}
