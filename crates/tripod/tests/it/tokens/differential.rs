//! Mutated real accounts and made ones: wherever the official decoder has an answer, ours is the same, field by field; and
//! whatever the bytes are, ours is an answer and no panic.

use std::time::Instant;

use spl_token_2022_interface::extension::confidential_mint_burn::ConfidentialMintBurn;
use spl_token_2022_interface::extension::confidential_transfer::ConfidentialTransferMint;
use spl_token_2022_interface::extension::confidential_transfer_fee::ConfidentialTransferFeeConfig;
use spl_token_2022_interface::extension::default_account_state::DefaultAccountState;
use spl_token_2022_interface::extension::group_member_pointer::GroupMemberPointer;
use spl_token_2022_interface::extension::group_pointer::GroupPointer;
use spl_token_2022_interface::extension::interest_bearing_mint::InterestBearingConfig;
use spl_token_2022_interface::extension::metadata_pointer::MetadataPointer;
use spl_token_2022_interface::extension::mint_close_authority::MintCloseAuthority;
use spl_token_2022_interface::extension::pausable::PausableConfig;
use spl_token_2022_interface::extension::permanent_delegate::PermanentDelegate;
use spl_token_2022_interface::extension::permissioned_burn::PermissionedBurnConfig;
use spl_token_2022_interface::extension::scaled_ui_amount::ScaledUiAmountConfig;
use spl_token_2022_interface::extension::transfer_fee::TransferFeeConfig;
use spl_token_2022_interface::extension::transfer_hook::TransferHook;
use spl_token_2022_interface::extension::{
    BaseStateWithExtensions as _, Extension as Official, ExtensionType, PodStateWithExtensions, StateWithExtensions,
};
use spl_token_2022_interface::pod::{PodCOption, PodMint};
use spl_token_2022_interface::state::Mint as OfficialMint;
use spl_token_group_interface::state::{TokenGroup, TokenGroupMember};
use spl_token_metadata_interface::state::TokenMetadata;
use tripod::Timestamp;
use tripod::tokens::{Address, Extension, Mint, MintError, Policy, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, assess, decode};

use super::samples::accounts;

/// Of the default run; `make soak` does [`SOAK_CASES`].
const CASES: u64 = 30_000;
const SOAK_CASES: u64 = 10_000_000;

/// xorshift*: a case is its seed, so a failure names the case.
struct Random(u64);

impl Random {
    fn of(case: u64) -> Self {
        Self(case.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    /// What breaks readers more often than chance does.
    fn nasty(&mut self) -> u8 {
        [0, 1, 2, 3, 19, 25, 99, 127, 128, 254, 255][self.below(11)]
    }
}

/// Where each entry of a mint begins.
fn entries(data: &[u8]) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), 166);
    while let Some(head) = data.get(at..at + 4) {
        if head[..2] == [0, 0] {
            break;
        }
        found.push(at);
        at += 4 + usize::from(u16::from_le_bytes([head[2], head[3]]));
    }
    found
}

/// One case: a real account with a few changes, or one that was made from nothing.
fn case(random: &mut Random, real: &[(Address, Vec<u8>)]) -> (Address, Vec<u8>) {
    let (owner, mut data) = real[random.below(real.len())].clone();
    if random.below(4) == 0 {
        data = real[0].1[..82].to_vec();
        data.resize(165, 0);
        data.push(1);
        for _ in 0..random.below(6) {
            let number = u16::try_from(random.below(31)).unwrap();
            let official = ExtensionType::try_from(number).ok().and_then(|kind| kind.usual_length(random));
            let length = official.unwrap_or_else(|| random.below(220));
            data.extend(number.to_le_bytes());
            data.extend(u16::try_from(length).unwrap().to_le_bytes());
            let calm = random.below(2) == 0;
            data.extend((0..length).map(|_| if calm { 0 } else { random.byte() }));
        }
    }
    for _ in 0..random.below(5) {
        let starts = entries(&data);
        let at = random.below(data.len());
        match random.below(9) {
            0 => data.truncate(at),
            1 => data.extend((0..random.below(40)).map(|_| random.byte())),
            2 | 3 if !data.is_empty() => data[at] = random.nasty(),
            4 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            // A head: number or length.
            5 if !starts.is_empty() => {
                let start = starts[random.below(starts.len())];
                data[start + random.below(4)] = random.nasty();
            }
            // An entry twice, at the end.
            6 if !starts.is_empty() => {
                let start = starts[random.below(starts.len())];
                let length = 4 + usize::from(u16::from_le_bytes([data[start + 2], data[start + 3]]));
                let copy = data.get(start..start + length).map(<[u8]>::to_vec).unwrap_or_default();
                data.extend(copy);
            }
            // A value's first bytes: string lengths, NUL, bad UTF-8, NaN.
            7 if !starts.is_empty() => {
                let start = starts[random.below(starts.len())] + 4 + random.below(110);
                if let Some(byte) = data.get_mut(start) {
                    *byte = random.nasty();
                }
            }
            8 => data.resize([0, 81, 82, 83, 165, 166, 355, 356][random.below(8)], 0),
            _ => {}
        }
    }
    (owner, data)
}

trait TypeLength {
    fn usual_length(self, random: &mut Random) -> Option<usize>;
}

impl TypeLength for ExtensionType {
    /// The right length, most of the time.
    fn usual_length(self, random: &mut Random) -> Option<usize> {
        if random.below(8) == 0 || self == Self::TokenMetadata {
            return None;
        }
        Self::try_calculate_account_len::<OfficialMint>(&[self]).ok().and_then(|length| length.checked_sub(170))
    }
}

fn option(official: PodCOption<Address>) -> Option<Address> {
    (official.option == [1, 0, 0, 0]).then_some(official.value)
}

type Theirs<'a> = PodStateWithExtensions<'a, PodMint>;

/// The first entry of a number: the one that the official reader takes.
fn first(ours: &Mint, number: u16) -> Option<&Extension> {
    ours.extensions.iter().find(|e| e.number() == number)
}

/// Where the official reader gives a value, our entry has its bytes.
fn same<T: Official + bytemuck::Pod>(ours: &Mint, theirs: &Theirs<'_>) {
    let number = u16::from(T::TYPE);
    match (theirs.get_extension::<T>(), first(ours, number)) {
        (Ok(value), Some(entry)) => {
            assert_eq!(entry.raw(), bytemuck::bytes_of(value), "{number}");
            // An account state above 2 has bytes and no name; all others have fields.
            assert!(
                entry.fields().is_ok() || number == 6 || number == 25 || number == 1,
                "{number}: {:?}",
                entry.fields()
            );
        }
        (Ok(_), None) => panic!("extension {number} was lost"),
        (Err(_), _) => {}
    }
}

fn compare(owner: &Address, data: &[u8]) {
    let ours = decode(owner, data);
    if *owner != TOKEN_2022_PROGRAM && *owner != TOKEN_PROGRAM {
        assert!(ours.is_err());
        return;
    }
    let theirs = Theirs::unpack(data);
    if *owner == TOKEN_PROGRAM && data.len() != 82 {
        assert!(ours.is_err(), "only Token-2022 has extensions");
        return;
    }
    let (ours, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(_), Err(_)) => return,
        // The two official readers differ: this one takes any tag of an authority, and any byte for "initialised".
        (Err(MintError::Tag { .. } | MintError::Initialised(_)), Ok(_))
            if StateWithExtensions::<OfficialMint>::unpack(data).is_err() =>
        {
            return;
        }
        (ours, theirs) => panic!("ours {ours:?}, official {:?}", theirs.map(|t| *t.base)),
    };
    assert_eq!((ours.supply, ours.decimals), (u64::from(theirs.base.supply), theirs.base.decimals));
    assert_eq!(ours.mint_authority, option(theirs.base.mint_authority));
    assert_eq!(ours.freeze_authority, option(theirs.base.freeze_authority));
    if let Ok(types) = theirs.get_extension_types()
        && ours.extensions.len() < 64
    {
        let numbers: Vec<u16> = types.into_iter().map(u16::from).collect();
        assert_eq!(ours.extensions.iter().map(Extension::number).collect::<Vec<_>>(), numbers);
    }
    same::<TransferFeeConfig>(&ours, &theirs);
    same::<MintCloseAuthority>(&ours, &theirs);
    same::<ConfidentialTransferMint>(&ours, &theirs);
    same::<DefaultAccountState>(&ours, &theirs);
    same::<InterestBearingConfig>(&ours, &theirs);
    same::<PermanentDelegate>(&ours, &theirs);
    same::<TransferHook>(&ours, &theirs);
    same::<ConfidentialTransferFeeConfig>(&ours, &theirs);
    same::<MetadataPointer>(&ours, &theirs);
    same::<GroupPointer>(&ours, &theirs);
    same::<GroupMemberPointer>(&ours, &theirs);
    same::<TokenGroup>(&ours, &theirs);
    same::<TokenGroupMember>(&ours, &theirs);
    same::<ConfidentialMintBurn>(&ours, &theirs);
    same::<ScaledUiAmountConfig>(&ours, &theirs);
    same::<PausableConfig>(&ours, &theirs);
    same::<PermissionedBurnConfig>(&ours, &theirs);
    if let Ok(theirs) = theirs.get_variable_len_extension::<TokenMetadata>() {
        let fields = first(&ours, 19).unwrap().fields().unwrap();
        // What a server refuses and what pads is taken out, nothing else.
        let clean = |text: &str| text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).replace('\0', "\u{fffd}");
        assert_eq!(fields["name"], clean(&theirs.name));
        assert_eq!(fields["symbol"], clean(&theirs.symbol));
        assert_eq!(fields["uri"], clean(&theirs.uri));
        assert_eq!(fields["mint"], theirs.mint.to_string());
        assert_eq!(fields["additionalMetadata"].as_array().unwrap().len(), theirs.additional_metadata.len());
    } else if let Some(entry) = first(&ours, 19) {
        assert!(entry.fields().is_err(), "metadata that the official reader refuses");
    }
}

/// As many cases as that; gives how many of them were mints.
fn run(cases: std::ops::Range<u64>) -> u64 {
    let real: Vec<(Address, Vec<u8>)> = accounts().into_iter().map(|a| (a.owner, a.data)).collect();
    let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
    let mut mints = 0;
    for number in cases {
        let mut random = Random::of(number + 1);
        let (owner, data) = case(&mut random, &real);
        let outcome = std::panic::catch_unwind(|| {
            compare(&owner, &data);
            let Ok(mint) = decode(&owner, &data) else { return false };
            let judged = assess(&Address::default(), &mint, number, now, &Policy::default());
            assert!(judged.reasons.iter().all(|reason| !reason.detail.is_empty()));
            true
        });
        match outcome {
            Ok(is_mint) => mints += u64::from(is_mint),
            Err(_) => panic!("case {number}: {owner} {data:02x?}"),
        }
    }
    mints
}

#[test]
fn mutated_accounts_read_as_the_official_decoder_reads_them() {
    let mints = run(0..CASES);
    // A mutation that always breaks the base would prove nothing about extensions.
    assert!(mints > CASES / 3 && mints < CASES, "{mints} of {CASES} were mints");
}

#[test]
#[ignore = "ten million cases take a while; `make soak` runs it"]
fn ten_million_mutated_accounts_read_as_the_official_decoder_reads_them() {
    let started = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let each = SOAK_CASES / u64::try_from(threads).unwrap();
    let mints: u64 = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..u64::try_from(threads).unwrap())
            .map(|part| scope.spawn(move || run(CASES + part * each..CASES + (part + 1) * each)))
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).sum()
    });
    let took = started.elapsed();
    println!(
        "{SOAK_CASES} cases, {mints} of them mints, in {took:?}: {} a second",
        SOAK_CASES * 1000 / u64::try_from(took.as_millis().max(1)).unwrap()
    );
}
