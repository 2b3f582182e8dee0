#!/usr/bin/env bash
# Renders the policy preset that lets a sandboxed OpenClaw reach one cluster, and installs or applies it.
# Runs on the machine where NemoClaw is, with bash 3.2 or newer. README.md beside it says what the rules are for.
set -euo pipefail
export LC_ALL=C # What is checked against a-z is ASCII.

usage() {
  cat <<'HELP'
Usage: setup.sh --relay URL --registry URL [options]

Prints the policy preset for a cluster. With --install or --apply it goes where it is needed instead.

  --relay URL       the relay, ws:// or wss://                     (or KARS_MESH_RELAY_URL)
  --registry URL    the registry, http:// or https://              (or KARS_MESH_REGISTRY_URL)
  --pair-url URL    where tokens are consumed; the registry's /v1/pair unless given  (or KARS_MESH_PAIR_URL)
  --allowed-ip CIDR the private network that these hosts are in; may be repeated
  --binary PATH     a program that may connect; may be repeated; openclaw and node unless given
  --name NAME       the preset's name; kars-mesh unless given
  --tunnel          a plain tunnel to the relay, for an OpenShell that does not know "protocol: websocket"
  --install         writes NAME.yaml into NemoClaw's catalog of presets
  --dir DIR         the folder of that catalog  (or NEMOCLAW_PRESETS)
  --apply           adds the preset to a running sandbox: from the catalog with --install, else from a file of its own
  --sandbox NAME    that sandbox  (or NEMOCLAW_SANDBOX_NAME)
  --help            this text

Exit codes: 0 done, 1 it could not be done, 2 an option is wrong.
HELP
}

say() { printf 'setup.sh: %s\n' "$1" >&2; }
wrong() {
  say "$1"
  exit 2
}
fail() {
  say "$1"
  exit 1
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MARK="# Rendered by setup.sh of kars-mesh: it is written anew from there."
BRIDGE="host.openshell.internal"
LABEL='^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'

relay=${KARS_MESH_RELAY_URL:-}
registry=${KARS_MESH_REGISTRY_URL:-}
pair=${KARS_MESH_PAIR_URL:-}
sandbox=${NEMOCLAW_SANDBOX_NAME:-}
directory=${NEMOCLAW_PRESETS:-}
name=kars-mesh
allowed="" # Lists are lines: bash 3.2 knows no empty array under `set -u`.
binaries=""
install=no
apply=no
tunnel=no

add() { printf '%s%s\n' "${1:+$1
}" "$2"; }

while [ $# -gt 0 ]; do
  case $1 in
    --relay | --registry | --pair-url | --allowed-ip | --binary | --name | --dir | --sandbox)
      if [ $# -lt 2 ] || [ -z "$2" ]; then wrong "$1 wants a value: see --help."; fi
      case $2 in *[[:cntrl:]]*) wrong "$1 holds a line break or a control character: give it in one line." ;; esac
      case $1 in
        --relay) relay=$2 ;;
        --registry) registry=$2 ;;
        --pair-url) pair=$2 ;;
        --allowed-ip) allowed=$(add "$allowed" "$2") ;;
        --binary) binaries=$(add "$binaries" "$2") ;;
        --name) name=$2 ;;
        --dir) directory=$2 ;;
        --sandbox) sandbox=$2 ;;
      esac
      shift 2
      ;;
    --install) install=yes && shift ;;
    --apply) apply=yes && shift ;;
    --tunnel) tunnel=yes && shift ;;
    --help | -h) usage && exit 0 ;;
    *) wrong "$1 is no option: see --help." ;;
  esac
done

# --- What was given, checked: nothing reaches the preset or a command that is not plain. ---

# is_ipv4 TEXT
is_ipv4() {
  local octet='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
  [[ $1 =~ ^$octet\.$octet\.$octet\.$octet$ ]]
}

# is_private ADDRESS: of a network of one's own (RFC 1918, RFC 6598).
is_private() {
  is_ipv4 "$1" && [[ $1 =~ ^(10|192\.168|172\.(1[6-9]|2[0-9]|3[01])|100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7]))\. ]]
}

# read_url OPTION URL SCHEMES EXAMPLE: sets host, port and base, the path without a slash at its end.
read_url() {
  local option=$1 url=$2 schemes=$3 example=$4
  local whole="^($schemes)://([^/:?#@]+)(:([0-9]+))?(/[^?#]*)?\$"
  [ -n "$url" ] || wrong "$option is missing: give the address that the cluster's operator names, such as $example."
  [[ $url != *:*//\[* ]] || wrong "$option: an IPv6 address cannot be named in a preset here: give the host's name."
  [[ $url =~ $whole ]] || wrong "$option: \"$url\" is no such address: give one like $example."
  local scheme=${BASH_REMATCH[1]}
  host=$(printf '%s' "${BASH_REMATCH[2]}" | tr '[:upper:]' '[:lower:]')
  port=${BASH_REMATCH[4]:-}
  base=${BASH_REMATCH[5]:-}
  while [[ $base == */ ]]; do base=${base%/}; done
  case $scheme in
    ws | http) port=${port:-80} ;;
    *) port=${port:-443} ;;
  esac
  [[ ${#port} -le 5 && $port =~ ^[1-9][0-9]*$ && $port -le 65535 ]] ||
    wrong "$option: port $port does not exist: give one from 1 to 65535."
  check_host "$option" "$host"
  [[ $base =~ ^(/[A-Za-z0-9._~-]+)*$ && ! $base =~ /\.\.?(/|$) ]] ||
    wrong "$option: the path \"$base\" is not plain: letters, digits and . _ ~ - are, between slashes."
}

check_host() {
  local option=$1 text=$2 label
  case $text in
    localhost | *.localhost | 127.*)
      wrong "$option: $text is the sandbox itself, there: name this machine $BRIDGE, or by its address." ;;
    0.0.0.0 | 169.254.*) wrong "$option: $text is never let through: give the host's own name or address." ;;
  esac
  is_ipv4 "$text" && return
  local last=${text##*.}
  [[ ${#text} -le 253 && ! $last =~ ^[0-9]+$ && $text != *. ]] || wrong "$option: \"$text\" is no host: give a name or an IPv4 address."
  local rest=$text.
  while [ -n "$rest" ]; do
    label=${rest%%.*}
    rest=${rest#*.}
    [[ $label =~ $LABEL ]] || wrong "$option: \"$text\" is no host: give a name or an IPv4 address."
  done
}

check_cidr() {
  local cidr=$1 next="give the network that the cluster's hosts are in, such as 10.20.0.0/16." address prefix bits=32
  address=${cidr%/*}
  prefix=${cidr##*/}
  if [[ $address == *:* ]]; then
    [[ $address =~ ^[0-9A-Fa-f:]{2,39}$ && $address == *:*:* && $address != *:::* ]] || wrong "--allowed-ip: \"$cidr\" is no network: $next"
    bits=128
  else
    is_ipv4 "$address" || wrong "--allowed-ip: \"$cidr\" is no network: $next"
  fi
  [[ $cidr == */* && $prefix =~ ^(0|[1-9][0-9]{0,2})$ && $prefix -le $bits ]] || wrong "--allowed-ip: \"$cidr\" is no network: $next"
  [ "$prefix" -ge 8 ] || wrong "--allowed-ip: $cidr is as good as everything: $next"
  case $address in
    0.* | 127.* | 169.254.* | :: | ::1 | [fF][eE]80:*)
      wrong "--allowed-ip: $cidr is never let through: $next" ;;
  esac
}

[[ $name =~ $LABEL ]] || wrong "--name: \"$name\" is no name for a preset: give lower-case letters, digits and hyphens."
if [ "$apply" = yes ]; then
  [ -n "$sandbox" ] || wrong "--sandbox is missing: --apply needs to know which (nemoclaw list names them)."
  [[ $sandbox =~ $LABEL ]] || wrong "--sandbox: \"$sandbox\" is no name of a sandbox: nemoclaw list names them."
fi
while IFS= read -r cidr; do
  [ -z "$cidr" ] || check_cidr "$cidr"
done <<<"$allowed"
[ -n "$binaries" ] || binaries=$'/usr/local/bin/openclaw\n/usr/local/bin/node\n/usr/bin/node'
while IFS= read -r binary; do
  [[ $binary =~ ^(/[A-Za-z0-9._+-]+)+$ && ! $binary =~ /\.\.?(/|$) ]] ||
    wrong "--binary: \"$binary\" is no plain absolute path: give the one that \"nemoclaw SANDBOX exec -- which node\" names."
done <<<"$binaries"

read_url --relay "$relay" "ws|wss" wss://relay.example.org
relay_host=$host relay_port=$port relay_path=$base/ws
read_url --registry "$registry" "http|https" https://registry.example.org
registry_host=$host registry_port=$port registry_base=$base
pair=${pair:-${registry%/}/v1/pair}
read_url --pair-url "$pair" "http|https" https://controller.example.org/v1/pair
pair_host=$host pair_port=$port pair_path=$base
[ -n "$pair_path" ] || wrong "--pair-url: \"$pair\" names no path: the whole address is meant, such as https://controller.example.org/v1/pair."

# --- The preset. ---

[ -r "$HERE/preset.yaml" ] || fail "preset.yaml is missing in $HERE: it belongs beside setup.sh."

shared=no
pairs=elsewhere
[ "$relay_host:$relay_port" != "$registry_host:$registry_port" ] || shared=yes
[ "$relay_host:$relay_port" != "$pair_host:$pair_port" ] || shared=yes
[ "$registry_host:$registry_port" != "$pair_host:$pair_port" ] || pairs=at_registry
if [ "$tunnel" = yes ] && [ "$shared" = yes ]; then
  wrong "--tunnel: $relay_host:$relay_port is not the relay alone, and OpenShell looks into everything there: leave --tunnel away."
fi

# The networks that a host may be in. User presets may name them for the bridge only: NemoClaw pins the others by itself.
networks_of() {
  if [ "$2" = custom ] && [ "$1" != "$BRIDGE" ]; then return; fi
  if [ -n "$allowed" ]; then
    printf '%s\n' "$allowed"
  elif [ "$1" = "$BRIDGE" ]; then
    printf '10.0.0.0/8\n172.16.0.0/12\n192.168.0.0/16\n'
  elif is_private "$1"; then
    printf '%s/32\n' "$1"
  fi
}

# repeat LINE PLACEHOLDER LINES
repeat() {
  local each
  while IFS= read -r each; do printf '%s\n' "${1//$2/$each}"; done <<<"$3"
}

# render catalog|custom
render() {
  local relay_ips registry_ips pair_ips sections section line depth=0 dropped=0
  relay_ips=$(networks_of "$relay_host" "$1")
  registry_ips=$(networks_of "$registry_host" "$1")
  pair_ips=$(networks_of "$pair_host" "$1")
  sections=" pairs_$pairs "
  if [ "$tunnel" = yes ]; then sections+="tunnel "; else sections+="websocket "; fi
  [ "$shared" = no ] || sections+="shared "
  [ -z "$relay_ips" ] || sections+="relay_ips "
  [ -z "$registry_ips" ] || sections+="registry_ips "
  [ -z "$pair_ips" ] || sections+="pair_ips "
  printf '%s\n' "$MARK"
  # A section stands between "#{ name" and "#}" and is left out, with all in it, where its name is not among them.
  while IFS= read -r line; do
    case $line in
      *"#{ "*)
        depth=$((depth + 1))
        section=${line#*"#{ "}
        if [ "$dropped" = 0 ] && [[ $sections != *" $section "* ]]; then dropped=$depth; fi
        continue
        ;;
      *"#}"*)
        if [ "$dropped" = "$depth" ]; then dropped=0; fi
        depth=$((depth - 1))
        continue
        ;;
    esac
    [ "$dropped" = 0 ] || continue
    line=${line//__NAME__/$name}
    line=${line//__RELAY_HOST__/$relay_host}
    line=${line//__RELAY_PORT__/$relay_port}
    line=${line//__RELAY_PATH__/$relay_path}
    line=${line//__REGISTRY_HOST__/$registry_host}
    line=${line//__REGISTRY_PORT__/$registry_port}
    line=${line//__REGISTRY_BASE__/$registry_base}
    line=${line//__PAIR_HOST__/$pair_host}
    line=${line//__PAIR_PORT__/$pair_port}
    line=${line//__PAIR_PATH__/$pair_path}
    case $line in
      *__RELAY_IP__*) repeat "$line" __RELAY_IP__ "$relay_ips" ;;
      *__REGISTRY_IP__*) repeat "$line" __REGISTRY_IP__ "$registry_ips" ;;
      *__PAIR_IP__*) repeat "$line" __PAIR_IP__ "$pair_ips" ;;
      *__BINARY__*) repeat "$line" __BINARY__ "$binaries" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done <"$HERE/preset.yaml"
}

if [ "$install" = no ] && [ "$apply" = no ]; then
  render catalog
  exit 0
fi

scratch=""
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT

install_preset() {
  local folder=$directory target
  if [ -z "$folder" ]; then
    folder=${NEMOCLAW_HOME:-${HOME:-}/.nemoclaw}/source/nemoclaw-blueprint/policies/presets
    [ -d "$folder" ] || fail "NemoClaw's presets are not in $folder: name their folder with --dir."
  fi
  mkdir -p "$folder" 2>/dev/null || fail "$folder cannot be made: name a folder of yours with --dir."
  target=$folder/$name.yaml
  [ ! -d "$target" ] || fail "$target is a folder: take it away, or choose another --name."
  if [ -e "$target" ] && [ "$(head -n 1 "$target")" != "$MARK" ]; then
    fail "$target is another preset: choose another --name."
  fi
  scratch=$(mktemp "$folder/.$name.XXXXXX" 2>/dev/null) || fail "$folder cannot be written to: name a folder of yours with --dir."
  render catalog >"$scratch"
  chmod 644 "$scratch"
  if cmp -s "$scratch" "$target"; then
    say "$target is unchanged."
    return
  fi
  if [ -e "$target" ]; then
    cp "$target" "$target.bak"
    say "$target had other rules: they are kept in $name.yaml.bak."
  fi
  mv "$scratch" "$target"
  say "$target is written."
}

apply_preset() {
  local file host trusted=" " help spelling=(policy add)
  command -v nemoclaw >/dev/null ||
    fail "there is no nemoclaw here to apply the preset with: run this where NemoClaw is, or look at the preset without --apply."
  help=$(nemoclaw --help 2>&1) || true
  # Its older spelling.
  if [[ $help == *policy-add* && $help != *"policy add"* ]]; then spelling=(policy-add); fi
  set -- "$sandbox" "${spelling[@]}"
  if [ "$install" = yes ]; then
    set -- "$@" "$name"
  else
    [ -z "$scratch" ] || rm -rf "$scratch"
    scratch=$(mktemp -d)
    file=$scratch/$name.yaml
    render custom >"$file"
    set -- "$@" --from-file "$file"
    for host in "$relay_host" "$registry_host" "$pair_host"; do
      if [ "$host" = "$BRIDGE" ] || [[ $trusted == *" $host "* ]] || [ -z "$(networks_of "$host" catalog)" ]; then continue; fi
      trusted+="$host "
      set -- "$@" --trusted-private-host "$host"
    done
  fi
  nemoclaw "$@" --yes || fail "nemoclaw $* --yes did not work: it says why above."
  say "$name holds for the sandbox $sandbox. See that it works: nemoclaw $sandbox exec -- openclaw mesh doctor"
}

[ "$install" = no ] || install_preset
if [ "$apply" = yes ]; then
  apply_preset
else
  say "Apply it to a sandbox with: nemoclaw SANDBOX policy add $name"
fi
