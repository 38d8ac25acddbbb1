export NODE_HOME="$DEPS_DIR/((INDEX))/node"
export NODE_ENV="${NODE_ENV:-production}"
export MEMORY_AVAILABLE="${MEMORY_LIMIT%m}"
export WEB_MEMORY="${WEB_MEMORY:-512}"
export WEB_CONCURRENCY="${WEB_CONCURRENCY:-1}"
export PATH="$PATH:$HOME/bin:$HOME/node_modules/.bin"
# A shell that becomes the program: with the usual one, npm's child would never hear that it should stop.
export NPM_CONFIG_SCRIPT_SHELL="${NPM_CONFIG_SCRIPT_SHELL:-/bin/bash}"
if [ "${OPTIMIZE_MEMORY:-}" = true ] && [ -n "$MEMORY_AVAILABLE" ]; then
  export NODE_OPTIONS="${NODE_OPTIONS:+$NODE_OPTIONS }--max_old_space_size=$((MEMORY_AVAILABLE * 75 / 100))"
fi
