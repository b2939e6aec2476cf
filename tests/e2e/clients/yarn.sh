echo '{}' > package.json
yarn add --silent --registry https://npm.example.com/ tiny
node -p 'require("tiny")'
