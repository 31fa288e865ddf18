//! How much of a device's memory is free: what the driver says, and on boards where the processor and the GPU share one
//! memory, what the system says. The arithmetic is pure.

/// Free bytes of a device with `total`, of which the driver calls `free` free. On an integrated device the driver does not
/// see memory that the system would give back (file caches), so the greater of the two counts.
pub fn free_bytes(free: u64, total: u64, integrated: bool, meminfo: &str) -> u64 {
    let system = if integrated { available(meminfo).unwrap_or(0) } else { 0 };
    free.max(system).min(total)
}

/// `MemAvailable` of a text like `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        7802880 kB\nMemFree:          400000 kB\nMemAvailable:    5000000 kB\n";

    #[test]
    fn a_card_has_what_its_driver_says() {
        assert_eq!(free_bytes(3 << 30, 8 << 30, false, MEMINFO), 3 << 30);
    }

    #[test]
    fn a_board_has_what_the_system_would_give_back() {
        assert_eq!(free_bytes(400_000 << 10, 7_802_880 << 10, true, MEMINFO), 5_000_000 << 10);
        assert_eq!(free_bytes(6 << 30, 8 << 30, true, MEMINFO), 6 << 30, "the driver may know better");
        assert_eq!(free_bytes(1 << 30, 2 << 30, true, MEMINFO), 2 << 30, "never more than there is");
    }

    #[test]
    fn a_system_that_does_not_say_leaves_the_drivers_word() {
        for text in ["", "MemAvailable: many kB", "MemAvailable: 5 MB", "MemAvailable: 99999999999999999999 kB"] {
            assert_eq!(free_bytes(7, 9, true, text), 7, "{text}");
        }
    }
}
