//! Weights whose columns lie in an order of their own.

use super::experts::Mixture;
use super::*;

/// Every input once.
pub fn order(random: &mut Random, cols: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..cols as u32).collect();
    (1..cols).for_each(|i| order.swap(i, random.below(i + 1)));
    order
}

#[test]
fn products_take_their_inputs_in_the_order_of_the_columns() {
    let mut random = Random::new(41);
    for format in [Format::Int4(Group::G128), Format::Int8(Group::G32), Format::Q4_0, Format::F16] {
        for (rows, outs, cols) in [(1, 40, 128), (3, 16, 384), (21, 33, 256)] {
            let order = order(&mut random, cols);
            let plain = [0; 2].map(|_| {
                let bytes = random.weight(format, outs, cols);
                HostTensor::new("w", format, outs, cols, Cow::Owned(bytes)).unwrap()
            });
            let ordered = plain.clone().map(|part| part.with_order(&order).unwrap());
            let (x, factors) = (random.floats(rows * cols), random.floats(cols));
            let turned: Vec<f32> =
                x.chunks(cols).flat_map(|x| order.iter().map(|input| x[*input as usize]).collect::<Vec<_>>()).collect();
            for norm in [None, Some((NormKind::Rms, &factors[..]))] {
                for after in [After::Store, After::Glu(Act::GeluTanh)] {
                    let case = Case { parts: &ordered, bias: None, norm, x: &x, rows, after };
                    let scalar = product(Isa::Scalar, 1, &case);
                    let e = error(&scalar, &exact_product(&case, cols, 2 * outs));
                    assert!(e < 1e-3, "{format} {rows} rows {after:?}: error {e:e}");
                    for isa in Isa::available() {
                        assert_eq!(product(isa, 2, &case), scalar, "{} {format} {rows} rows {after:?}", isa.name());
                    }
                    if norm.is_none() {
                        let case = Case { parts: &plain, x: &turned, ..case };
                        assert_eq!(product(Isa::best(), 1, &case), scalar, "{format} {rows} rows {after:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_expert_has_an_order_of_its_own() {
    let mut random = Random::new(42);
    for (rows, format) in [(1, Format::Int4(Group::G64)), (9, Format::Int8(Group::G128))] {
        let mut mixture = Mixture::new(&mut random, format, 3, 256, Some(512));
        for [gate, up, down] in &mut mixture.weights {
            let (first, second) = (order(&mut random, gate.cols), order(&mut random, down.cols));
            [gate, up].into_iter().for_each(|w| *w = w.clone().with_order(&first).unwrap());
            *down = down.clone().with_order(&second).unwrap();
        }
        let x = random.floats(rows * mixture.dim);
        let logits = random.floats(rows * mixture.weights.len());
        let y = mixture.run(Isa::best(), 2, &x, &logits);
        let added: Vec<f32> = y.iter().zip(&x).map(|(y, x)| y - x).collect();
        let e = error(&added, &mixture.exact(&x, &logits));
        assert!(e < 8e-3, "{format} {rows} rows: error {e:e}");
    }
}

#[test]
fn rows_of_a_table_come_in_the_order_of_the_inputs() {
    let mut random = Random::new(43);
    for format in [Format::Int4(Group::G32), Format::Int8(Group::G64), Format::F32] {
        let (rows, cols) = (20, 192);
        let bytes = random.weight(format, rows, cols);
        let host = HostTensor::new("e", format, rows, cols, Cow::Owned(bytes)).unwrap();
        for host in [host.clone(), host.with_order(&order(&mut random, cols)).unwrap()] {
            let mut cpu = Cpu::new(1).unwrap();
            let weight = cpu.weight(std::slice::from_ref(&host)).unwrap();
            let mut x = filled(&mut cpu, cols, &vec![0.0; 2 * cols]);
            let mut step = step(2);
            (step.rows[0].token, step.rows[1].token) = (17, 4);
            cpu.run(&step, None, &mut |cpu| cpu.embed(&mut x, &weight, 1.0, None)).unwrap();
            let values = host.to_f32();
            assert_eq!(x.data, [&values[17 * cols..18 * cols], &values[4 * cols..5 * cols]].concat(), "{format}");
        }
    }
}

#[test]
fn parts_that_are_not_of_one_order_are_refused() {
    let mut random = Random::new(44);
    let bytes = random.weight(Format::Q8_0, 1, 64);
    let plain = HostTensor::new("gate", Format::Q8_0, 1, 64, Cow::Owned(bytes)).unwrap();
    let other = HostTensor { name: "up".to_string(), ..plain.clone() };
    let other = other.with_order(&order(&mut random, 64)).unwrap();
    let error = Cpu::new(1).unwrap().weight(&[plain, other]).err().unwrap().to_string();
    assert!(error.contains("tensor up") && error.contains("gate"), "{error}");
}
