# A container's config.json, or the process of an exec (without `mounts`), made to trust what is in /dev/sandbox.
# $here: the directory that is mounted there; $system: the image's own store, when it is to be mounted over, or "";
# $java: whether there is a store for Java.
def variables: [
    "SSL_CERT_FILE=/dev/sandbox/ca-certificates.crt",
    "CURL_CA_BUNDLE=/dev/sandbox/ca-certificates.crt",
    "REQUESTS_CA_BUNDLE=/dev/sandbox/ca-certificates.crt",
    "PIP_CERT=/dev/sandbox/ca-certificates.crt",
    "GIT_SSL_CAINFO=/dev/sandbox/ca-certificates.crt",
    "CODEX_CA_CERTIFICATE=/dev/sandbox/ca-certificates.crt",
    "AWS_CA_BUNDLE=/dev/sandbox/ca-certificates.crt",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=/dev/sandbox/ca-certificates.crt",
    "NODE_EXTRA_CA_CERTS=/dev/sandbox/ca.crt",
    "DENO_CERT=/dev/sandbox/ca.crt",
    "APT_CONFIG=/dev/sandbox/apt.conf",
    "SYSTEM_WGETRC=/dev/sandbox/wgetrc"
] + if $java then [
    "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=/dev/sandbox/cacerts -Djavax.net.ssl.trustStorePassword=changeit"
] else [] end;

# What the image or the user has set stays.
def with_variables:
    .env //= [] | (.env | map(split("=")[0])) as $set | .env += (variables | map(select(split("=")[0] | IN($set[]) | not)));

def bind($source; $destination):
    {$destination, type: "bind", $source, options: ["bind", "ro", "nosuid", "nodev", "noexec", "rprivate"]};

# Only in a /dev that is the container's own: in any other file system the mount point would stay behind.
def own_dev: [.mounts[] | select(.destination == "/dev")] | length == 1 and .[0].type == "tmpfs";

if has("mounts") then
    if own_dev then
        .process |= with_variables
        | .mounts += [bind($here; "/dev/sandbox")]
        | if $system != "" then .mounts += [bind($here + "/ca-certificates.crt"; $system)] else . end
    else . end
else with_variables end
