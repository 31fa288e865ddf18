//! What lanes do together: shuffles, votes, matrix products, copies to shared memory. Expected values are computed from
//! the manual's formulas, written down once more.

mod run;

use run::apply;

/// One warp whose lanes hold these numbers in %r1.
fn warp(body: &str, values: impl Fn(u64) -> u64) -> Vec<u32> {
    let rows: Vec<[u64; 3]> = (0..32).map(|lane| [values(lane), lane, 0]).collect();
    apply(&format!("{body}\ncvt.u64.u32 %d0, %r0;"), &rows).into_iter().map(|v| v as u32).collect()
}

#[test]
fn shuffles_and_their_clamps() {
    let value = |lane: u64| 1000 + lane * lane;
    for mode in ["up", "down", "bfly", "idx"] {
        for by in [0i32, 1, 3, 8, 17, 31] {
            for (clamp, segment) in [(31, 0), (0, 0), (7, 24), (0, 24), (15, 16), (20, 0)] {
                let c = segment << 8 | clamp;
                let body =
                    format!("shfl.sync.{mode}.b32 %r0|%p1, %r1, {by}, {c}, -1;\n@!%p1 add.u32 %r0, %r0, 100000;");
                for (lane, found) in warp(&body, value).into_iter().enumerate() {
                    let lane = lane as i32;
                    let bound = lane & segment | clamp & !segment;
                    let source = match mode {
                        "up" => lane - by,
                        "down" => lane + by,
                        "bfly" => lane ^ by,
                        _ => lane & segment | by & !segment,
                    };
                    let inside = if mode == "up" { source >= bound } else { source <= bound };
                    let expected = if inside { value(source as u64) } else { value(lane as u64) + 100_000 };
                    assert_eq!(u64::from(found), expected, "{mode} by {by}, c {c:#x}, lane {lane}");
                }
            }
        }
    }
}

#[test]
fn lanes_wait_for_those_they_shuffle_with() {
    // Odd lanes come by a longer way.
    let body = "and.b32 %r2, %r1, 1;\nsetp.eq.u32 %p1, %r2, 0;\n@%p1 bra MEET;\nadd.u32 %r1, %r1, 100;\nMEET:\n\
                shfl.sync.bfly.b32 %r0, %r1, 1, 31, -1;";
    let found = warp(body, |lane| lane);
    assert!((0..32).all(|l| found[l] == if l % 2 == 0 { l as u32 + 101 } else { l as u32 - 1 }), "{found:?}");
    // The way back to the start is taken by one lane after the other, each alone.
    let body = "mov.u32 %r0, 0;\nL:\nadd.u32 %r0, %r0, 1;\nsetp.lt.u32 %p1, %r0, %r1;\n@%p1 bra L;\nbar.warp.sync -1;\n\
                vote.sync.ballot.b32 %r0, %p1, -1;\nactivemask.b32 %r2;\nadd.u32 %r0, %r0, %r2;";
    assert_eq!(warp(body, |lane| lane), vec![u32::MAX; 32]);
}

#[test]
fn votes() {
    let start = "setp.lt.u32 %p1, %r1, 12;\n";
    let ballot = warp(&format!("{start}vote.sync.ballot.b32 %r0, %p1, -1;"), |lane| lane);
    assert_eq!(ballot, vec![0xfff; 32]);
    for (mode, value, expected) in
        [("any", 12, 1), ("any", 20, 0), ("all", 0, 1), ("all", 12, 0), ("uni", 40, 1), ("uni", 3, 0)]
    {
        let body = format!("{start}vote.sync.{mode}.pred %p2, %p1, -1;\nselp.u32 %r0, 1, 0, %p2;");
        let found = warp(&body, |lane| match value {
            12 => lane,
            3 => lane + 5,
            other => other,
        });
        assert_eq!(found, vec![expected; 32], "{mode} {value}");
    }
    let same = warp("match.any.sync.b32 %r0, %r1, -1;", |lane| lane % 3);
    assert!((0..32).all(|lane| same[lane] == (0..32).filter(|l| l % 3 == lane % 3).map(|l| 1 << l).sum::<u32>()));
    assert_eq!(warp("redux.sync.add.s32 %r0, %r1, -1;", |lane| lane), vec![496; 32]);
    assert_eq!(warp("redux.sync.max.s32 %r0, %r1, -1;", |lane| lane.wrapping_sub(40)), vec![-9i32 as u32; 32]);
    assert_eq!(warp("mov.u32 %r0, %lanemask_lt;\npopc.b32 %r0, %r0;", |lane| lane), (0..32).collect::<Vec<u32>>());
}

/// A float16 of a small whole number.
fn half(value: i32) -> u64 {
    let sign = if value < 0 { 0x8000 } else { 0 };
    let magnitude = value.unsigned_abs();
    if magnitude == 0 {
        return sign;
    }
    let exponent = 31 - magnitude.leading_zeros();
    sign | u64::from((exponent + 15) << 10 | (magnitude << (10 - exponent)) & 1023)
}

/// Elements of the three operands: small, and no two rows or columns alike.
fn element(matrix: usize, row: usize, col: usize) -> i32 {
    ((row * 37 + col * 11 + matrix * 5 + row * col * 7) % 41) as i32 - 20
}

fn product(row: usize, col: usize, depth: usize, seed: usize) -> f32 {
    let sum: i32 = (0..depth).map(|k| element(seed, row, k) * element(seed + 1, k, col)).sum();
    (sum + 1000 * element(seed + 2, row, col)) as f32
}

/// Runs mma with registers filled by lane; `fill` gives words of a, b and c, `check` the place of each result.
fn mma(shape: &str, words: [usize; 3], fill: impl Fn(usize, usize, usize) -> u64, check: impl Fn(usize, usize) -> f32) {
    let name = |prefix: &str, from: usize, count: usize| {
        let all: Vec<String> = (from..from + count).map(|i| format!("{prefix}{i}")).collect();
        format!("{{{}}}", all.join(", "))
    };
    let [a, b, c] = words;
    let mut body = String::new();
    // A word after the other: all lanes' values of one are in its own table of branches on the lane.
    for (matrix, count, prefix, from) in [(0, a, "%r", 10), (1, b, "%r", 20), (2, c, "%f", 10)] {
        for word in 0..count {
            let register = format!("{prefix}{}", from + word);
            body += &format!("mov.b32 {register}, 0;\n");
            for lane in 0..32 {
                let value = fill(matrix, lane, word);
                body += &format!("setp.eq.u32 %p1, %r1, {lane};\n@%p1 mov.b32 {register}, {value};\n");
            }
        }
    }
    body += &format!(
        "mma.sync.aligned.{shape}.row.col.f32.f16.f16.f32 {}, {}, {}, {};\n",
        name("%f", 20, c),
        name("%r", 10, a),
        name("%r", 20, b),
        name("%f", 10, c)
    );
    for result in 0..c {
        let found = warp(&format!("{body}mov.b32 %r0, %f{};", 20 + result), |lane| lane);
        for (lane, found) in found.into_iter().enumerate() {
            assert_eq!(f32::from_bits(found), check(lane, result), "{shape} lane {lane} d{result}");
        }
    }
}

fn pair(low: i32, high: i32) -> u64 {
    half(high) << 16 | half(low)
}

#[test]
fn products_of_16_8_16() {
    // Rows g and g + 8, columns 2 t, 2 t + 1 and 8 further, for lane 4 g + t: a0..a3 by quarters of the matrix.
    let fill = |matrix: usize, lane: usize, word: usize| {
        let (g, t) = (lane / 4, lane % 4);
        match matrix {
            0 => {
                let (row, col) = (g + 8 * (word % 2), 2 * t + 8 * (word / 2));
                pair(element(0, row, col), element(0, row, col + 1))
            }
            1 => pair(element(1, 2 * t + 8 * word, g), element(1, 2 * t + 8 * word + 1, g)),
            _ => u64::from((1000.0 * element(2, g + 8 * (word / 2), 2 * t + word % 2) as f32).to_bits()),
        }
    };
    mma("m16n8k16", [4, 2, 4], fill, |lane, i| product(lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2, 16, 0));
}

#[test]
fn products_of_8_8_4() {
    // Quad-pair q is lanes 4 q .. 4 q + 3 (rows, columns 0..3 of its operands) and those 16 further (4..7).
    let place = |lane: usize| (lane % 16 / 4 * 3, lane % 4 + lane / 16 * 4);
    let result = |lane: usize, i: usize| {
        let row = (lane & 1) + (i & 2) + lane / 16 * 4;
        (row, (i & 4) + (lane & 2) + (i & 1))
    };
    let fill = |matrix: usize, lane: usize, word: usize| {
        let (seed, line) = place(lane);
        match matrix {
            0 => pair(element(seed, line, 2 * word), element(seed, line, 2 * word + 1)),
            1 => pair(element(seed + 1, 2 * word, line), element(seed + 1, 2 * word + 1, line)),
            _ => {
                let (row, col) = result(lane, word);
                u64::from((1000.0 * element(seed + 2, row, col) as f32).to_bits())
            }
        }
    };
    mma("m8n8k4", [2, 2, 8], fill, |lane, i| {
        let (row, col) = result(lane, i);
        product(row, col, 4, place(lane).0)
    });
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    // Lane l copies its 16 bytes of the input (a, b); what it reads back depends on what it waited for.
    let copy = |middle: &str| {
        let body = format!(
            ".shared .align 16 .b8 room[512];\nmov.u32 %r4, room;\nmad.lo.u32 %r4, %r2, 16, %r4;\nmul.wide.u32 %d7, %r2, 48;\n\
             sub.s64 %d6, %d50, %d7;\nmul.wide.u32 %d7, %r2, 24;\nadd.s64 %d6, %d6, %d7;\nmul.wide.u32 %d7, %r2, 16;\n\
             add.s64 %d6, %d6, %d7;\ncp.async.cg.shared.global [%r4], [%d6], 16;\n{middle}\nld.shared.u32 %r0, [%r4];"
        );
        warp(&body, |lane| lane + 50)
    };
    // 16 bytes at 16 l of rows of 24 bytes (l + 50, l, 0).
    let word = |lane: usize| {
        let (row, part) = (lane * 16 / 24, lane * 16 % 24 / 8);
        [row as u32 + 50, row as u32, 0][part]
    };
    let all: Vec<u32> = (0..32).map(word).collect();
    let none = vec![u32::MAX; 32];
    assert_eq!(copy(""), none);
    assert_eq!(copy("cp.async.commit_group;"), none);
    assert_eq!(copy("cp.async.wait_group 0;"), none);
    assert_eq!(copy("cp.async.commit_group;\ncp.async.wait_group 1;"), none);
    assert_eq!(copy("cp.async.commit_group;\ncp.async.wait_group 0;"), all);
    assert_eq!(copy("cp.async.commit_group;\ncp.async.commit_group;\ncp.async.wait_group 1;"), all);
    assert_eq!(copy("cp.async.wait_all;"), all);
    // A later copy of zeros: nothing is present, and the address is not looked at.
    let zeros =
        "mov.u64 %d6, 0;\nmov.u32 %r5, 0;\ncp.async.ca.shared.global [%r4], [%d6], 16, %r5;\ncp.async.wait_all;";
    assert_eq!(copy(zeros), vec![0; 32]);
}
