//! The verdicts on real mints, and on hand-made bytes where no real account says it (said so each time).

use tripod::Timestamp;
use tripod::tokens::assess::{Code, Reason};
use tripod::tokens::{Address, Assessment, Mint, Policy, TOKEN_2022_PROGRAM, Verdict, assess, decode};

use super::samples::{Account, BERN, BONK, MEGA, PYUSD, USDC, account, accounts};

const MSTRX: &str = "XsP7xzNPvEHS1m6qfanPUGjNmdnmsLKEoNAnHjdxxyZ";
const SUSD: &str = "susdabGDNbhrnCa6ncrYo81u4s9GM8ecK2UwMyZiq4X";
const PAXOS: &str = "2apBGMsS6ti9RyF5TwQTDswXBWskiJP2LD4cUEDqYJjk";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-23T00:00:00Z")
}

fn judge(account: &Account, epoch: u64) -> Assessment {
    assess(&account.address, &account.mint(), epoch, now(), &Policy::default())
}

fn codes(assessment: &Assessment) -> Vec<Code> {
    assessment.reasons.iter().map(|reason| reason.code).collect()
}

fn reason(assessment: &Assessment, code: Code) -> &Reason {
    assessment.reasons.iter().find(|r| r.code == code).unwrap_or_else(|| panic!("no {code:?} in {assessment:?}"))
}

/// USDC's base as a Token-2022 mint with these entries.
fn made(entries: &[(u16, Vec<u8>)]) -> Mint {
    let mut data = account(USDC).data;
    data.resize(165, 0);
    data.push(1);
    for (number, value) in entries {
        data.extend(number.to_le_bytes());
        data.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        data.extend(value);
    }
    decode(&TOKEN_2022_PROGRAM, &data).unwrap()
}

fn judge_made(entries: &[(u16, Vec<u8>)], policy: &Policy) -> Assessment {
    assess(&account(USDC).address, &made(entries), 1_000, now(), policy)
}

#[test]
fn each_real_mint_has_the_verdict_of_a_careful_trader() {
    for (name, verdict) in [
        (USDC, Verdict::Tradable),
        (BONK, Verdict::Tradable),
        (SUSD, Verdict::Tradable),
        (BERN, Verdict::Costly),
        (PYUSD, Verdict::Costly),
        (MSTRX, Verdict::Costly),
        (MEGA, Verdict::Refused),
    ] {
        let found = judge(&account(name), 1_100);
        assert_eq!(found.verdict, verdict, "{found:?}");
        assert!(found.reasons.is_sorted_by(|a, b| a.verdict >= b.verdict));
        assert_eq!(found.reasons.first().map_or(Verdict::Tradable, |r| r.verdict), verdict);
    }
    assert_eq!(codes(&judge(&account(BONK), 1_100)), []);
    assert_eq!(codes(&judge(&account(USDC), 1_100)), [Code::MintAuthority, Code::FreezeAuthority]);
    for account in accounts() {
        let found = judge(&account, 1_100);
        assert!(!codes(&found).contains(&Code::BrokenExtension), "{found:?}");
        assert!(!codes(&found).contains(&Code::MetadataUnproven), "{found:?}");
    }
}

#[test]
fn bern_costs_420_before_epoch_698_and_269_from_it_on() {
    let bern = account(BERN);
    let cap = 3_906_250_000_000_000_000;
    for (epoch, bps, next) in [(0, 420, true), (697, 420, true), (698, 269, false), (u64::MAX, 269, false)] {
        let found = judge(&bern, epoch);
        let fee = found.transfer_fee.unwrap();
        assert_eq!((fee.bps, fee.max), (bps, cap), "epoch {epoch}");
        assert_eq!(
            found.next_transfer_fee.map(|f| (f.bps, f.since_epoch)),
            next.then_some((269, 698)),
            "epoch {epoch}"
        );
        assert!(reason(&found, Code::TransferFee).detail.contains(&bps.to_string()));
        assert_eq!(codes(&found).contains(&Code::TransferFeeNext), next);
    }
    let fees = bern.mint().transfer_fees().unwrap();
    let million = 1_000_000 * 100_000;
    assert_eq!((fees.at(697).fee(million), fees.at(698).fee(million)), (4_200_000_000, 2_690_000_000));
    let sent = fees.at(698).gross_for(million).unwrap();
    assert_eq!((sent, fees.at(698).net(sent)), (102_764_361_320, million));
    let json = serde_json::to_value(judge(&bern, 697)).unwrap();
    assert_eq!(json["transfer_fee"]["max"], "3906250000000000000");
    assert_eq!((&json["epoch"], &json["verdict"]), (&"697".into(), &"costly".into()));
    assert_eq!(json["reasons"][0]["code"], "transfer_fee");
    assert_eq!(json["reasons"][0]["extension"], "TransferFeeConfig");
}

#[test]
fn pyusd_has_a_delegate_a_hook_authority_and_a_fee_of_nothing() {
    let pyusd = account(PYUSD);
    let found = judge(&pyusd, 1_100);
    let delegate = reason(&found, Code::PermanentDelegate);
    assert_eq!((delegate.verdict, delegate.extension.as_deref()), (Verdict::Costly, Some("PermanentDelegate")));
    assert!(delegate.detail.contains(PAXOS), "{delegate:?}");
    let hook = reason(&found, Code::TransferHookAuthority);
    assert_eq!((hook.verdict, hook.extension.as_deref()), (Verdict::Tradable, Some("TransferHook")));
    assert!(!codes(&found).contains(&Code::TransferHook), "no program is called yet");
    let fee = found.transfer_fee.unwrap();
    assert_eq!((fee.bps, fee.max), (0, 0));
    assert!(!codes(&found).contains(&Code::TransferFee));
    assert!(reason(&found, Code::TransferFeeAuthority).detail.contains("epoch 1102"));

    let mut policy = Policy::default();
    policy.trusted_authorities = vec![PAXOS.parse().unwrap()];
    let trusted = assess(&pyusd.address, &pyusd.mint(), 1_100, now(), &policy);
    assert_eq!(trusted.verdict, Verdict::Tradable);
    assert!(reason(&trusted, Code::PermanentDelegate).detail.contains("trusted"), "told all the same");
    policy.refused_mints = vec![pyusd.address];
    let refused = assess(&pyusd.address, &pyusd.mint(), 1_100, now(), &policy);
    assert_eq!((refused.verdict, refused.reasons[0].code), (Verdict::Refused, Code::RefusedMint));
}

#[test]
fn shown_amounts_follow_the_clock_while_nobody_writes() {
    let susd = account(SUSD);
    let shown = |time: &str| {
        let found = assess(&susd.address, &susd.mint(), 1, at(time), &Policy::default());
        found.multiplier.unwrap().value.parse::<f64>().unwrap()
    };
    // 741 bp from 1727476198 to 1782139606, then 2,623 bp; by hand: e^(0.0741 × 1.732226) = 1.136959…
    let update = shown("2026-06-22T14:46:46Z");
    assert!((update - 1.136_959_9).abs() < 1e-6, "{update}");
    let year_later = shown("2027-06-22T20:32:22Z");
    assert!((year_later / update - 0.2623_f64.exp()).abs() < 1e-9, "365.24 days at 2,623 bp: {year_later}");
    let mstrx = judge(&account(MSTRX), 1);
    assert_eq!(mstrx.multiplier.as_ref().unwrap().value, "1");
    assert!(reason(&mstrx, Code::ScaledAmounts).detail.contains("multiplied by 1 now"));
}

/// Hand-made bytes: no real account with these was found.
#[test]
fn what_blocks_a_trade_is_refused() {
    let policy = Policy::default();
    let key = |byte: u8| vec![byte; 32];
    let paused = |state: u8| [key(1), vec![state]].concat();
    let hook = |program: u8| [key(0), key(program)].concat();
    for (code, number, value) in [
        (Code::Paused, 26, paused(1)),
        (Code::DefaultFrozen, 6, vec![2]),
        (Code::DefaultFrozen, 6, vec![0]),
        (Code::BrokenExtension, 6, vec![3]),
        (Code::NonTransferable, 9, vec![]),
        (Code::BrokenExtension, 9, vec![0]),
        (Code::TransferHook, 14, hook(9)),
        (Code::UnknownExtension, 99, vec![1]),
        (Code::BrokenExtension, 12, vec![1; 31]),
        (Code::BrokenExtension, 7, vec![]),
        (Code::BrokenExtension, 19, vec![0; 10]),
        (Code::BrokenExtension, 1, vec![255; 108]),
        (Code::MultiplierInvalid, 25, vec![0; 56]),
    ] {
        let found = judge_made(&[(number, value)], &policy);
        assert_eq!(found.verdict, Verdict::Refused, "{found:?}");
        assert_eq!(found.reasons[0].code, code, "{found:?}");
        assert!(found.reasons[0].extension.is_some() && !found.reasons[0].detail.is_empty(), "{found:?}");
    }
    for (number, value) in
        [(26, paused(0)), (6, vec![1]), (14, hook(0)), (28, key(3)), (24, vec![1; 196]), (12, key(0))]
    {
        let found = judge_made(&[(number, value)], &policy);
        assert_eq!(found.verdict, Verdict::Tradable, "{found:?}");
    }
    let twice = judge_made(&[(12, key(1)), (12, key(2))], &policy);
    assert_eq!(twice.reasons[0].code, Code::BrokenExtension);
    let mut trusting = Policy::default();
    trusting.trusted_hook_programs = vec![Address::new_from_array([9; 32])];
    assert_eq!(judge_made(&[(14, hook(9))], &trusting).verdict, Verdict::Tradable);
}

/// Hand-made bytes: a split that is announced.
#[test]
fn an_announced_multiplier_is_told_until_it_holds() {
    let second = 1_795_000_000_i64;
    let mut value = vec![0; 32];
    value.extend(1.0_f64.to_le_bytes());
    value.extend(second.to_le_bytes());
    value.extend(10.0_f64.to_le_bytes());
    let mint = made(&[(25, value)]);
    let judge = |second: i64| {
        let time = Timestamp::from_nanos(second * 1_000_000_000).unwrap();
        assess(&account(USDC).address, &mint, 1, time, &Policy::default())
    };
    let before = judge(second - 1);
    assert_eq!((before.verdict, before.multiplier.as_ref().unwrap().value.as_str()), (Verdict::Costly, "1"));
    assert_eq!(before.multiplier.as_ref().unwrap().next.as_ref().unwrap().value, "10");
    assert!(reason(&before, Code::MultiplierChange).detail.contains("1795000000"));
    let after = judge(second);
    assert_eq!((after.verdict, after.multiplier.unwrap().value.as_str()), (Verdict::Tradable, "10"));
}

#[test]
fn a_forgery_and_impossible_decimals_are_found() {
    let pyusd = account(PYUSD).mint();
    let forger = account(BONK).address;
    let found = assess(&forger, &pyusd, 1, now(), &Policy::default());
    assert_eq!(reason(&found, Code::MetadataUnproven).verdict, Verdict::Costly);
    let mut absurd = account(BONK).mint();
    absurd.decimals = 20;
    let found = assess(&forger, &absurd, 1, now(), &Policy::default());
    assert_eq!((found.verdict, found.reasons[0].code), (Verdict::Refused, Code::ImpossibleDecimals));
    // A pointer to another account, and no metadata of its own.
    let elsewhere = judge_made(&[(18, vec![7; 64])], &Policy::default());
    assert_eq!(codes(&elsewhere)[2], Code::MetadataElsewhere);
}
