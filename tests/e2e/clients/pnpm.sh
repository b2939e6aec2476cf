echo '{}' > package.json
pnpm add --silent --registry https://npm.example.com/ tiny
node -p 'require("tiny")'
