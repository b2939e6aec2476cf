npm install --silent --registry https://npm.example.com/ tiny
node -p 'require("tiny")'
