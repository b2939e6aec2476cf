fn main() {
    println!("checked {}", itoa::Buffer::new().format(7));
}
