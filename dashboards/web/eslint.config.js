// Names and types are tsc's concern; these rules are about faults that types do not show.

import js from "@eslint/js";

const rules = {
  "array-callback-return": "error",
  "arrow-body-style": ["error", "as-needed"],
  curly: ["error", "multi-line"],
  "default-case-last": "error",
  eqeqeq: "error",
  "no-alert": "error",
  "no-console": "error",
  "no-constructor-return": "error",
  "no-duplicate-imports": "error",
  "no-else-return": "error",
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-lonely-if": "error",
  "no-loop-func": "error",
  "no-new-wrappers": "error",
  "no-param-reassign": "error",
  "no-promise-executor-return": "error",
  "no-return-assign": "error",
  "no-self-compare": "error",
  "no-sequences": "error",
  "no-shadow": "error",
  "no-template-curly-in-string": "error",
  "no-throw-literal": "error",
  "no-unmodified-loop-condition": "error",
  "no-unneeded-ternary": "error",
  "no-unreachable-loop": "error",
  "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
  "no-unused-expressions": ["error", { allowShortCircuit: true }],
  "no-useless-assignment": "error",
  "no-useless-call": "error",
  "no-useless-computed-key": "error",
  "no-useless-concat": "error",
  "no-useless-rename": "error",
  "no-var": "error",
  "object-shorthand": "error",
  "prefer-const": "error",
  "prefer-object-has-own": "error",
  "prefer-rest-params": "error",
  "prefer-spread": "error",
  radix: "error",
  "require-atomic-updates": "error",
  "symbol-description": "error",
  yoda: "error",
};

export default [
  {
    files: ["js/**/*.js", "test/**/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: { ...js.configs.recommended.rules, ...rules, "no-undef": "off" },
  },
  {
    // Nobody types the tests: here a name that is not there is eslint's concern.
    files: ["test/**/*.js"],
    languageOptions: { globals: { Event: "readonly", globalThis: "readonly", process: "readonly", setImmediate: "readonly" } },
    rules: { "no-undef": "error" },
  },
];
