//! Instructions on whole numbers and bits, against plain definitions.

mod run;

use run::{apply, apply32, rows};

/// Compares an instruction on 32-bit registers with its definition.
fn check32(opcode: &str, sources: usize, f: impl Fn(u32, u32, u32) -> u32) {
    let rows = rows(500);
    for (row, found) in rows.iter().zip(apply32(opcode, sources, &rows)) {
        let [a, b, c] = row.map(|v| v as u32);
        let expected = f(a, b, c);
        assert_eq!(found, expected, "{opcode} {a:#x} {b:#x} {c:#x}: {found:#x}, {expected:#x}");
    }
}

fn check64(opcode: &str, sources: usize, f: impl Fn(u64, u64, u64) -> u64) {
    let rows = rows(500);
    let list = &", %d1, %d2, %d3"[..5 * sources];
    for (row, found) in rows.iter().zip(apply(&format!("{opcode} %d0{list};"), &rows)) {
        let expected = f(row[0], row[1], row[2]);
        assert_eq!(found, expected, "{opcode} {row:x?}: {found:#x}, {expected:#x}");
    }
}

fn signed(v: u32) -> i64 {
    i64::from(v as i32)
}

#[test]
fn arithmetic() {
    check32("add.s32", 2, |a, b, _| (u64::from(a) + u64::from(b)) as u32);
    check32("sub.u32", 2, |a, b, _| (signed(a) - signed(b)) as u32);
    check32("add.sat.s32", 2, |a, b, _| (signed(a) + signed(b)).clamp(i32::MIN.into(), i32::MAX.into()) as u32);
    check32("mul.lo.s32", 2, |a, b, _| (u64::from(a) * u64::from(b)) as u32);
    check32("mul.hi.u32", 2, |a, b, _| ((u64::from(a) * u64::from(b)) >> 32) as u32);
    check32("mul.hi.s32", 2, |a, b, _| ((signed(a) * signed(b)) >> 32) as u32);
    check32("mad.lo.s32", 3, |a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c.into()) as u32);
    check32("min.s32", 2, |a, b, _| signed(a).min(signed(b)) as u32);
    check32("max.u32", 2, |a, b, _| if a > b { a } else { b });
    check32("abs.s32", 1, |a, _, _| signed(a).unsigned_abs() as u32);
    check32("neg.s32", 1, |a, _, _| (-signed(a)) as u32);
    check32("div.u32", 2, |a, b, _| a.checked_div(b).unwrap_or(u32::MAX));
    check32("rem.s32", 2, |a, b, _| if b == 0 { u32::MAX } else { (signed(a) % signed(b)) as u32 });
    check32("sad.s32", 3, |a, b, c| (signed(a) - signed(b)).unsigned_abs().wrapping_add(c.into()) as u32);
    check64("add.s64", 2, |a, b, _| (u128::from(a) + u128::from(b)) as u64);
    check64("mul.hi.u64", 2, |a, b, _| ((u128::from(a) * u128::from(b)) >> 64) as u64);
    check64("mul.hi.s64", 2, |a, b, _| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64);
    check64("mad.lo.s64", 3, |a, b, c| (u128::from(a) * u128::from(b)).wrapping_add(c.into()) as u64);
    check64("min.s64", 2, |a, b, _| (a as i64).min(b as i64) as u64);
    check64("max.u64", 2, |a, b, _| a.max(b));
}

#[test]
fn wide_products_and_dots() {
    let rows = rows(300);
    let found = apply("mul.wide.s32 %d0, %r1, %r2;", &rows);
    for (row, found) in rows.iter().zip(found) {
        assert_eq!(found as i64, signed(row[0] as u32) * signed(row[1] as u32));
    }
    let found = apply("mad.wide.u32 %d0, %r1, %r2, %d3;", &rows);
    for (row, found) in rows.iter().zip(found) {
        assert_eq!(found, (row[0] & 0xffff_ffff).wrapping_mul(row[1] & 0xffff_ffff).wrapping_add(row[2]));
    }
    let bytes = |v: u32| v.to_le_bytes();
    let ss = |a: u32, b: u32| (0..4).map(|i| i32::from(bytes(a)[i] as i8) * i32::from(bytes(b)[i] as i8)).sum::<i32>();
    let us = |a: u32, b: u32| (0..4).map(|i| i32::from(bytes(a)[i]) * i32::from(bytes(b)[i] as i8)).sum::<i32>();
    check32("dp4a.s32.s32", 3, |a, b, c| c.wrapping_add(ss(a, b) as u32));
    check32("dp4a.u32.s32", 3, |a, b, c| c.wrapping_add(us(a, b) as u32));
    check32("dp2a.hi.s32.s32", 3, |a, b, c| {
        let halves = [a as i16, (a >> 16) as i16].map(i32::from);
        let products = halves[0] * i32::from(bytes(b)[2] as i8) + halves[1] * i32::from(bytes(b)[3] as i8);
        c.wrapping_add(products as u32)
    });
}

#[test]
fn bits() {
    check32("and.b32", 2, |a, b, _| a & b);
    check32("xor.b32", 2, |a, b, _| a ^ b);
    check32("not.b32", 1, |a, _, _| !a);
    check32("popc.b32", 1, |a, _, _| (0..32).map(|i| a >> i & 1).sum());
    check32("clz.b32", 1, |a, _, _| (0..32).rev().take_while(|i| a >> i & 1 == 0).count() as u32);
    check32("brev.b32", 1, |a, _, _| (0..32).map(|i| (a >> i & 1) << (31 - i)).sum());
    check32("bfind.u32", 1, |a, _, _| (0..32).rev().find(|i| a >> i & 1 == 1).unwrap_or(u32::MAX));
    check32("bfind.s32", 1, |a, _, _| (0..32).rev().find(|i| a >> i & 1 != a >> 31).unwrap_or(u32::MAX));
    // Shifts by the width or more give what a slow shift would.
    check32("shl.b32", 2, |a, b, _| if b > 31 { 0 } else { a << b });
    check32("shr.u32", 2, |a, b, _| if b > 31 { 0 } else { a >> b });
    check32("shr.s32", 2, |a, b, _| (signed(a) >> b.min(63)) as u32);
    check64("shr.s64", 2, |a, b, _| (i128::from(a as i64) >> (b as u32).min(127)) as u64);
    let both = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    check32("shf.l.wrap.b32", 3, |a, b, c| (both(a, b) << (c & 31) >> 32) as u32);
    check32("shf.r.wrap.b32", 3, |a, b, c| (both(a, b) >> (c & 31)) as u32);
    check32("shf.l.clamp.b32", 3, |a, b, c| (both(a, b) << c.min(32) >> 32) as u32);
    check32("shf.r.clamp.b32", 3, |a, b, c| (both(a, b) >> c.min(32)) as u32);
}

#[test]
fn bit_fields() {
    // The manual's definitions, bit by bit.
    let extract = |a: u32, b: u32, c: u32, is_signed: bool| {
        let (at, count) = (b & 255, c & 255);
        let sign = if !is_signed || count == 0 { 0 } else { a >> (at + count - 1).min(31) & 1 };
        (0..32).map(|i| if i < count && at + i <= 31 { (a >> (at + i) & 1) << i } else { sign << i }).sum::<u32>()
    };
    let fields: Vec<[u64; 3]> = rows(400).iter().map(|&[a, b, c]| [a, b % 40, c % 40]).collect();
    for (kind, is_signed) in [("bfe.u32", false), ("bfe.s32", true)] {
        for (row, found) in fields.iter().zip(apply32(kind, 3, &fields)) {
            let [a, b, c] = row.map(|v| v as u32);
            assert_eq!(found, extract(a, b, c, is_signed), "{kind} {a:#x} {b} {c}");
        }
    }
    let found = apply("bfi.b32 %r0, %r1, 0xabcd1234, %r2, %r3;\ncvt.u64.u32 %d0, %r0;", &fields);
    for (row, found) in fields.iter().zip(found) {
        let [a, at, count] = row.map(|v| v as u32);
        let mut expected = 0xabcd_1234u32;
        for i in (0..count).take_while(|i| at + i <= 31) {
            expected = expected & !(1 << (at + i)) | (a >> i & 1) << (at + i);
        }
        assert_eq!(found as u32, expected, "{a:#x} {at} {count}");
    }
}

#[test]
fn logic_of_three() {
    for table in [0xEAu32, 0x96, 0xC0, 0x01, 0xFE, 0x1B] {
        let rows = rows(50);
        let found = apply(&format!("lop3.b32 %r0, %r1, %r2, %r3, {table};\ncvt.u64.u32 %d0, %r0;"), &rows);
        for (row, found) in rows.iter().zip(found) {
            let bit = |i: u32| {
                let of = |v: u64| (v >> i & 1) as u32;
                u64::from(table >> (of(row[0]) * 4 + of(row[1]) * 2 + of(row[2])) & 1) << i
            };
            assert_eq!(found, (0..32).map(bit).sum::<u64>(), "{table:#x}");
        }
    }
}

#[test]
fn permutations() {
    let byte = |a: u32, b: u32, n: u32| (u64::from(b) << 32 | u64::from(a)) >> (8 * n) & 255;
    check32("prmt.b32", 3, |a, b, c| {
        let one = |i: u32| {
            let n = c >> (4 * i) & 15;
            let plain = byte(a, b, n & 7);
            if n < 8 {
                plain
            } else if plain > 127 {
                255
            } else {
                0
            }
        };
        (0..4).map(|i| (one(i) as u32) << (8 * i)).sum()
    });
    // The manual's table, highest byte first.
    let modes: [(&str, [[u32; 4]; 4]); 6] = [
        ("f4e", [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]),
        ("b4e", [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]]),
        ("rc8", [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
        ("ecl", [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]]),
        ("ecr", [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]]),
        ("rc16", [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]]),
    ];
    for (mode, table) in modes {
        check32(&format!("prmt.b32.{mode}"), 3, |a, b, c| {
            table[(c & 3) as usize].iter().fold(0, |v, &n| v << 8 | byte(a, b, n) as u32)
        });
    }
}

#[test]
fn conversions_between_whole_numbers() {
    let rows = rows(200);
    let check = |body: &str, f: &dyn Fn(u64) -> u64| {
        for (row, found) in rows.iter().zip(apply(body, &rows)) {
            assert_eq!(found, f(row[0]), "{body} {:#x}", row[0]);
        }
    };
    check("cvt.s64.s32 %d0, %r1;", &|a| a as i32 as u64);
    check("cvt.u64.u32 %d0, %r1;", &|a| a & 0xffff_ffff);
    check("cvt.s32.s8 %r0, %r1;\ncvt.s64.s32 %d0, %r0;", &|a| a as i8 as u64);
    check("cvt.u32.u16 %r0, %h1;\ncvt.u64.u32 %d0, %r0;", &|a| a & 0xffff);
    check("cvt.sat.s8.s32 %r0, %r1;\ncvt.s64.s32 %d0, %r0;", &|a| i64::from(a as i32).clamp(-128, 127) as u64);
    check("cvt.sat.u8.s32 %r0, %r1;\ncvt.u64.u32 %d0, %r0;", &|a| i64::from(a as i32).clamp(0, 255) as u64);
    check("mov.b32 {%h4, %h5}, %r1;\nmov.b32 %r0, {%h5, %h4};\ncvt.u64.u32 %d0, %r0;", &|a| {
        u64::from((a as u32).rotate_left(16))
    });
    check("mov.b64 {%r4, %r5}, %d1;\nmov.b64 %d0, {%r5, %r4};", &|a| a.rotate_left(32));
}

#[test]
fn choices() {
    let rows = rows(200);
    let found = apply("setp.lt.s32 %p1, %r1, %r2;\nselp.b64 %d0, %d1, %d2, %p1;", &rows);
    for (row, found) in rows.iter().zip(found) {
        assert_eq!(found, if (row[0] as i32) < row[1] as i32 { row[0] } else { row[1] });
    }
    // The second predicate is the negated comparison, combined likewise.
    let body = "setp.eq.u32 %p3, %r3, 31;\nsetp.lo.or.u32 %p1|%p2, %r1, %r2, !%p3;\nselp.u32 %r4, 1, 0, %p1;\n\
                selp.u32 %r5, 2, 0, %p2;\nor.b32 %r0, %r4, %r5;\ncvt.u64.u32 %d0, %r0;";
    for (row, found) in rows.iter().zip(apply(body, &rows)) {
        let [a, b, c] = row.map(|v| v as u32);
        assert_eq!(found, u64::from(a < b || c != 31) + 2 * u64::from(a >= b || c != 31));
    }
    let body = "setp.ne.s32 %p1, %r1, 0;\nsetp.gt.u32 %p2, %r2, 40;\nxor.pred %p3, %p1, %p2;\nnot.pred %p3, %p3;\n\
                mov.pred %p4, -1;\nand.pred %p3, %p3, %p4;\n@%p3 mov.u64 %d0, 7;\n@!%p3 mov.u64 %d0, 9;";
    for (row, found) in rows.iter().zip(apply(body, &rows)) {
        assert_eq!(found, if (row[0] as u32 != 0) == (row[1] as u32 > 40) { 7 } else { 9 });
    }
}
