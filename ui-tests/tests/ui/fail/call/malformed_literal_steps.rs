fn main() {
    let _ = palm::steps!("images.thumbnail spell");
    let _ = palm::steps!["images.thumbnail", "spell.out.loud", ""];
    let _ = palm::steps![];
}
