echo 'deb [trusted=yes] https://apt.example.com/ ./' > tiny.list
mkdir lists
apt() { sudo apt-get -qq -o "Dir::Etc::SourceList=$PWD/tiny.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$PWD/lists" "$@"; }
apt update
apt install -y tiny > /dev/null
tiny
